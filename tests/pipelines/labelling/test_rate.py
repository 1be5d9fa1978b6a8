"""`grmp rate`: the command, the address it listens on, export and import."""

from __future__ import annotations

import json
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from grmp_core.datasets.label_table import load_table
from grmp_core.errors import InputError
from grmp_core.ratings.rated_set import load_votes
from grmp_core.ratings.vote_log import VoteLog, read_log
from pipelines import cli
from pipelines.configuration.labels import RateConfig
from pipelines.configuration.schema import Config
from pipelines.labelling import rating_server
from pipelines.labelling.rating_server import serve
from pipelines.labelling.votes_to_labels import export_labels, import_votes
from pipelines.runtime.web_access import is_loopback_address
from tests.grmp_core.ratings.votes import grade
from tests.pipelines.labelling.folders import write_images, write_unreadable

ALL = "0.0.0.0"  # noqa: S104


def with_votes(folder: Path) -> Path:
    """Votes of a log that was written elsewhere, so without ids of the images but one."""
    grades = {"a.png": (2, 5), "sub/ü.png": (4, 5), "gone.png": (1, 2)}
    votes = [grade(*vote) for name, (ann, bob) in grades.items() for vote in (("Ann", name, ann), ("Bob", name, bob))]
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append([type(vote)(**{**vars(vote), "image_ids": (None,)}) for vote in votes])
    log.append([grade("Ann", "other.png", 1)])  # its id is of other bytes
    log.close()
    return folder


def test_export_writes_a_target_and_tells_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = with_votes(write_images(tmp_path / "photos", ["a.png", "sub/ü.png", "other.png"]))
    output = tmp_path / "labels" / "labels.csv"
    assert cli.main(["rate", str(folder), "--export", str(output)]) == 0
    text = capsys.readouterr().out
    assert "gone, left out: gone.png" in text
    assert "file changed, earlier votes left out: other.png" in text
    assert f"2 labels in {output}" in text
    target = load_table(str(output), 0.0)
    assert sorted(target.image_paths) == sorted(str(folder / name) for name in ("a.png", "sub/ü.png"))
    assert sorted(target.mos) == [3.5, 4.5]


def test_export_of_differences_is_a_target_that_falls(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = with_votes(write_images(tmp_path / "photos", ["a.png", "sub/ü.png"]))
    (tmp_path / "references.csv").write_text("image,reference\na.png,sub/ü.png\n")
    output = tmp_path / "labels.csv"
    references = f"rate.references={tmp_path / 'references.csv'}"
    assert cli.main(["rate", str(folder), "--export", str(output), "--set", references]) == 0
    assert "labels are differences to 1 references (DMOS)" in capsys.readouterr().out
    assert output.read_text().splitlines() == ["image,dmos,stderr,votes", "photos/a.png,1,1,2"]  # 4 - 2 and 5 - 5


def test_import_adds_each_vote_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_images(tmp_path / "photos", ["a.png", "one/b.png", "two/b.png"])
    result = {"type": "rating", "to_name": "image", "value": {"rating": 4}}
    tasks = [
        {
            "data": {"image": f"/data/upload/3/0a1b2c3d-{name}"},
            "annotations": [{"id": i, "completed_by": 1, "result": [result]}],
        }
        for i, name in enumerate(("a.png", "b.png"))
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    config = RateConfig(folder=str(folder), import_file=str(tmp_path / "export.json"))
    first = import_votes(config)
    assert (first.added, first.known, len(first.rejected)) == (1, 0, 1)
    assert "2 images of the folder are called b.png" in first.rejected[0]
    assert cli.main(["rate", str(folder), "--import", str(tmp_path / "export.json")]) == 0
    assert "0 votes added" in capsys.readouterr().out
    assert len(read_log(str(folder / "votes.jsonl")).votes) == 1
    assert export_labels(RateConfig(folder=str(folder), export=str(tmp_path / "labels.csv"))).images == 1


def test_an_exact_path_is_meant_before_a_base_name(tmp_path: Path):
    folder = write_images(tmp_path / "photos", ["a.png", "sub/a.png", "one/b.png", "two/b.png"])
    rows = ["a.png,1", "sub/a.png,2", "b.png,3"]
    ranked = "\n".join(["rater,ranking,image,rank", *(f"Ann,1,{row}" for row in rows)])
    (tmp_path / "rankings.csv").write_text(ranked)
    imported = import_votes(RateConfig(folder=str(folder), import_file=str(tmp_path / "rankings.csv")))
    assert [vote.images for vote in read_log(str(folder / "votes.jsonl")).votes] == [("a.png", "sub/a.png")]
    assert len(imported.rejected) == 1
    assert "2 images of the folder are called b.png" in imported.rejected[0]


def test_export_of_votes_on_other_files_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = with_votes(write_images(tmp_path / "photos", ["other.png"]))
    assert cli.main(["rate", str(folder), "--export", str(tmp_path / "labels.csv")]) == 2
    reason = "of the voted images 3 gone, 1 changed since, such as a.png; correct rate.folder"
    assert reason in capsys.readouterr().err


def test_an_image_that_cannot_be_read_costs_its_own_votes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_images(tmp_path / "photos", ["a.png", "b.png"])
    write_unreadable(folder / "bad.png")
    ranked = "rater,ranking,image,rank\nAnn,1,a.png,1\nAnn,1,b.png,2\nAnn,1,bad.png,3\n"
    (tmp_path / "rankings.csv").write_text(ranked)
    imported = import_votes(RateConfig(folder=str(folder), import_file=str(tmp_path / "rankings.csv")))
    assert (imported.added, imported.known) == (1, 0)
    assert imported.rejected == ("bad.png cannot be read; its votes are not taken",)
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append([grade("Ann", "bad.png", 1)])
    log.close()
    assert cli.main(["rate", str(folder), "--export", str(tmp_path / "labels.csv")]) == 0
    text = capsys.readouterr().out
    assert "cannot be read, left out: bad.png" in text
    assert "2 labels in" in text
    rejected = load_votes(log.path, 0.5).rejected
    assert [reject.reason for reject in rejected] == ["votes.jsonl: image cannot be read"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        (ALL, False),
        ("192.168.1.5", False),
        ("pc", False),
    ],
)
def test_loopback(host: str, expected: bool):
    assert is_loopback_address(host) == expected


def served(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: RateConfig) -> str:
    """The line with the link, of a server that ends at once."""
    monkeypatch.setattr(rating_server.uvicorn.Server, "run", lambda self, sockets: None)
    serve(Config(rate=replace(config, order="random")))
    return next(line for line in capsys.readouterr().err.splitlines() if "open http" in line)


def test_any_other_address_has_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = str(write_images(tmp_path / "photos", ["a.png"]))
    assert "token" not in served(monkeypatch, capsys, RateConfig(folder=folder, port=0))
    wide = RateConfig(folder=folder, port=0, host=ALL)
    first, second = (served(monkeypatch, capsys, wide).partition("?token=")[2].split()[0] for _ in range(2))
    assert len(first) >= 32
    assert first != second
    file = tmp_path / "token"
    kept = RateConfig(folder=folder, port=0, host=ALL, token_file=str(file))
    first, second = (served(monkeypatch, capsys, kept).partition("?token=")[2].split()[0] for _ in range(2))
    assert first == second == file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("short")
    with pytest.raises(InputError, match="use 16 or more"):
        serve(Config(rate=kept))


def test_what_cannot_be_served_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_images(tmp_path / "photos", ["a.png"])
    log = VoteLog(str(folder / "votes.jsonl"))
    assert cli.main(["rate", str(folder)]) == 2
    assert "another grmp rate has these votes open" in capsys.readouterr().err
    log.close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["rate", str(folder), "--set", f"rate.port={taken.getsockname()[1]}"]) == 2
        assert "use another rate.port" in capsys.readouterr().err
    assert cli.main(["rate"]) == 2
    assert "rate.folder is not set" in capsys.readouterr().err
    assert cli.main(["rate", str(folder), "--export", str(tmp_path / "labels.txt")]) == 2
    assert "name a .csv file" in capsys.readouterr().err
    assert cli.main(["rate", str(folder), "--export", str(tmp_path / "labels.csv")]) == 2
    assert "there are no votes" in capsys.readouterr().err
    assert not (tmp_path / "labels.csv").exists()
