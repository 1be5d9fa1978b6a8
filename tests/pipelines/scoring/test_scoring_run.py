"""`grmp score` from end to end in this process: what bad inputs cost, what is written, and what is said."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from grmp_core.errors import InputError
from grmp_core.model import scorer
from pipelines.cli import run_command
from pipelines.scoring import batch_scorer, score_rows, scoring_run
from pipelines.scoring.scoring_run import Scoring
from tests.grmp_core.imaging import mutations
from tests.pipelines.scoring.conftest import encoded


@pytest.fixture
def mixed(tmp_path) -> list[Path]:
    """A good picture, an empty file, a file that is no image, and a good picture."""
    contents = {"a.png": encoded(0), "b.jpg": b"", "c.jpg": b"no image", "d.png": encoded(1)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in contents]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_bad_image_costs_its_own_row_and_good_rows_show_no_error(score, mixed, tmp_path, ending):
    output = tmp_path / "out" / f"scores{ending}"
    done = score(*mixed, output=str(output))
    assert [error is None for error in done.scores["error"]] == [True, False, False, True]
    assert done.exit_code == 0
    assert (
        done.as_text().splitlines()[-2].startswith(f"scored 2, 2 failed (first: {mixed[1]}: empty file (zero bytes))")
    )
    assert "nan" not in done.as_text().lower()
    rows = json.loads(json.dumps(done.as_json(), allow_nan=False))["scores"]
    assert [row["error"] is None for row in rows] == [row["quality"] is not None for row in rows]
    if ending == ".csv":
        written = [line.split(",") for line in output.read_text().splitlines()[1:]]
        assert [cells[-1] == "" for cells in written] == [True, False, False, True]
        assert [cells[1] == "" for cells in written] == [False, True, True, False]
    else:
        assert pq.read_table(output).to_pylist() == rows
        assert pq.read_schema(output) == score_rows.SCORES


def test_an_error_column_without_an_error_is_still_text(score, mixed, tmp_path):
    score(mixed[0], output=str(tmp_path / "scores.parquet"))
    assert pq.read_schema(tmp_path / "scores.parquet") == score_rows.SCORES


def test_many_scores_are_shown_by_the_worst_and_the_best():
    def rows(num_scored: int) -> pd.DataFrame:
        scored = [(i / 100, None) for i in range(num_scored)]
        cells = [*scored, *[(math.nan, "bad")] * 20]
        names = ("image_path", "quality", "mos_scale_score", "error")
        missing = dict.fromkeys(score_rows.SCORES.names)
        rows = [(str(i), quality, math.nan, error) for i, (quality, error) in enumerate(cells)]
        given = [dict(zip(names, row, strict=True)) for row in rows]
        return batch_scorer.scores_frame([missing | row for row in given])

    for num_scored, shown in ((20, ["0", "1", "2", "17", "18", "19"]), (2, ["0", "1"])):
        header, *lines = scoring_run.scores_as_text(rows(num_scored)).splitlines()
        assert [line.split()[0] for line in lines] == shown
        assert header.split() == ["image", "quality"], "no columns that are empty"


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to decode\nframe 0"), AttributeError("x"), MemoryError(), TypeError()]
)
def test_whatever_a_decoder_raises_costs_one_row(score, mixed, monkeypatch, error):
    alone = score(mixed[0]).scores["quality"][0]
    decode_image = scorer.decode_image

    def fail(source, limits):
        if str(source).endswith("c.jpg"):
            raise error
        return decode_image(source, limits)

    monkeypatch.setattr(scorer, "decode_image", fail)
    scores = score(*mixed).scores
    assert scores["quality"][0] == alone
    assert f"({type(error).__name__}: " in scores["error"][2]
    assert "\n" not in scores["error"][2]
    assert scores["error"][3] is None


def test_a_model_that_fails_is_no_image_s_error(score, mixed, monkeypatch):
    def fail(self, views):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("grmp_core.model.predictor.Predictor.__call__", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        score(mixed[0])


def test_when_every_image_fails_the_scores_are_written_and_the_exit_code_is_1(mixed, tiny_model, tmp_path, capsys):
    output = tmp_path / "scores.csv"
    arguments = [str(mixed[1]), str(mixed[2]), "--model", tiny_model, "--output", str(output)]
    assert run_command("score", arguments) == 1
    assert f"no image has a score: 2 failed (first: {mixed[1]}: empty file" in capsys.readouterr().out
    assert pd.read_csv(output)["error"].notna().all()
    assert run_command("score", [*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == 2
    assert run_command("score", [str(mixed[0]), *arguments]) == 0


@pytest.mark.parametrize("name", ["file/scores.csv", "folder.csv", "scores.txt", "scores", "caf\udce9.csv"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_scored(
    score, mixed, tmp_path, monkeypatch, name
):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setattr(scoring_run, "open_model", lambda *_: pytest.fail("opened the model"))
    with pytest.raises(InputError, match=r"^[^\n]*(cannot|end it in)[^\n]*$"):
        score(mixed[0], output=str(tmp_path / name))


def test_the_default_output_is_tried_before_anything_is_scored(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scoring_run, "FEW", 1)
    (tmp_path / "file").write_text("in the way")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(0))
    arguments = [str(tmp_path / "*.png"), "--model", tiny_model, "--set", f"output={tmp_path}/file"]
    assert run_command("score", arguments) == 2
    assert "cannot make the folder" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_letter_ends_no_run(tiny_model, tmp_path, monkeypatch, terminal):
    name = "caf\u00e9 \N{GRINNING FACE} \u6f22.png"
    (tmp_path / name).write_bytes(encoded(0))
    (tmp_path / os.fsdecode(b"\xe9.png")).write_bytes(encoded(0))
    streams = {stream: io.TextIOWrapper(io.BytesIO(), encoding=terminal) for stream in ("stdout", "stderr")}
    for stream, wrapper in streams.items():
        monkeypatch.setattr(sys, stream, wrapper)
    assert run_command("score", [str(tmp_path), "--model", tiny_model]) == 0
    assert run_command("score", [str(tmp_path / f"no {name}"), "--model", tiny_model]) == 2
    out, err = (wrapper.buffer.getvalue().decode(terminal) for wrapper in streams.values() if not wrapper.flush())
    assert "scored 1, 1 failed" in out
    assert name.encode(terminal, "backslashreplace").decode(terminal) in out
    assert "\\xe9.png" in out
    assert name.encode(terminal, "backslashreplace").decode(terminal) in err


def test_fuzzed_files_leave_the_score_of_a_good_neighbour(score, tmp_path):
    files = [tmp_path / f"{i:03}" for i in range(100)]
    for i, file in enumerate(files):
        file.write_bytes(mutations.case(i).data)
    good = tmp_path / "good.jpg"
    good.write_bytes(encoded(3, "JPEG"))
    alone = score(good).scores["quality"][0]
    scores = score(*files[:50], good, *files[50:], local_images=200).scores
    assert scores["quality"][50] == alone
    assert scores["error"][50] is None
    assert 10 < scores["error"].notna().sum() < 60  # half of them have odd metadata only


@pytest.mark.shared_data
def test_every_shared_case_leaves_the_score_of_a_good_neighbour(score, shared_data, tmp_path):
    cases = shared_data.parent / "cases"
    if not cases.is_dir():
        pytest.skip(f"no cases at {cases}")
    files = sorted(path for path in cases.rglob("*") if path.is_file())
    good = tmp_path / "good.jpg"
    good.write_bytes(encoded(3, "JPEG"))
    alone = score(good).scores["quality"][0]
    done: Scoring = score(good, *files, cases / "parquet" / "parts.parquet", local_images=200)
    assert done.exit_code == 0
    scores = done.scores.set_index("image_path")
    assert scores.loc[str(good), "quality"] == alone
    assert scores.loc[str(good), "error"] is None
    assert scores.loc[[f"img/{i}.png" for i in range(3)], "error"].isna().all()
    for name in ("empty", "broken"):
        assert "is no readable Parquet file" in scores.loc[f"{cases}/parquet/{name}.parquet", "error"]
    read = {"struct.parquet", "part-0.parquet", "part-1.parquet"}
    assert {str(file) for file in files if file.name not in read} <= set(scores.index)
