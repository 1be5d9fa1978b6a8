"""From names to images on an object store, against a server over HTTP, and scoring what is there."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grmp_core.errors import InputError
from grmp_core.storage import locate
from pipelines.scoring.file_stamps import stamp_of, unchanged
from pipelines.scoring.inputs import find_images
from pipelines.scoring.score_rows import parquet_of
from tests.pipelines.scoring.conftest import encoded
from tests.s3_server import s3_server

FOLDER = "s3://scoring/photos"
FILES = ("0.png", "1 é#%.PNG", "sub/[3].png", "sub/2.png")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A server with four pictures, a text file, and tables of them."""
    with s3_server("scoring") as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        folder = locate(FOLDER)
        for seed, name in enumerate(FILES):
            (folder / name).write_bytes(encoded(seed))
        (folder / "notes.txt").write_bytes(b"no image")
        frame = pd.DataFrame({"image": ["0.png", "sub/../1 é#%.PNG", f"{FOLDER}/sub/2.png", "none.png"]})
        (folder / "labels.csv").write_bytes(frame.to_csv(index=False).encode())
        for part, rows in (("part-0", frame[:3]), ("part-1", frame[3:])):
            table = pa.Table.from_pandas(rows, preserve_index=False)
            (folder / "parts.parquet" / f"{part}.parquet").write_bytes(parquet_of(table))
        embedded = pa.table({"image": [encoded(0), encoded(1)]})
        (folder / "bytes.parquet").write_bytes(parquet_of(embedded))
        yield variables


@pytest.fixture(autouse=True)
def s3(environment, monkeypatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def names(*entries: str) -> list[str]:
    """As seen from FOLDER, unquoted."""
    images = find_images(entries).images
    return [posixpath.relpath(locate(image.path).path, "scoring/photos") for image in images]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (f"{FOLDER}/0.png", ["0.png"]),
        (f"{FOLDER}/1 é#%25.PNG", ["1 é#%.PNG"]),
        (f"{FOLDER}/sub", ["sub/[3].png", "sub/2.png"]),
        (f"{FOLDER}/sub/", ["sub/[3].png", "sub/2.png"]),
        (f"{FOLDER}/*.png", ["0.png"]),
        (f"{FOLDER}/**/*.png", ["0.png", "sub/[3].png", "sub/2.png"]),
        (f"{FOLDER}/sub/[[0-9].png", ["sub/2.png"]),
        (f"{FOLDER}/sub/[3].png", ["sub/[3].png"]),
        ("s3://scoring", list(FILES)),
        (f"{FOLDER}/labels.csv", ["0.png", "1 é#%.PNG", "sub/2.png", "none.png"]),
        (f"{FOLDER}/*.csv", ["0.png", "1 é#%.PNG", "sub/2.png", "none.png"]),
        (f"{FOLDER}/parts.parquet", ["0.png", "1 é#%.PNG", "sub/2.png", "none.png"]),
        (f"{FOLDER}/parts.parquet/", ["0.png", "1 é#%.PNG", "sub/2.png", "none.png"]),
    ],
)
def test_objects_prefixes_patterns_and_tables(entry, expected):
    assert names(entry) == expected


def test_what_is_no_image_is_listed(capsys):
    inputs = find_images([FOLDER])
    assert capsys.readouterr().err == f"{FOLDER}: 5 files not taken: .parquet 3, .csv 1, .txt 1\n"
    assert f"{FOLDER}/notes.txt" in [left.path for left in inputs.not_taken]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("s3://nowhere", "there is no such bucket"),
        ("s3://nowhere/a.png", "there is no such bucket"),
        ("s3://nowhere/*.png", "there is no such bucket"),
        ("s3://nowhere/a.parquet", "there is no such bucket"),
        (f"{FOLDER}/none.png", "there is nothing of that name"),
        (f"{FOLDER}/none*.png", "there is nothing of that name"),
        (f"{FOLDER}/none/", "there is nothing of that name"),
        (f"{FOLDER}/none.csv", "there is nothing of that name"),
        (f"{FOLDER}/*.txt", r"no image found .1 file not taken: \.txt 1"),
    ],
)
def test_what_is_not_there_is_one_line(entry, message):
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        find_images([entry])


def test_scores_of_objects_are_those_of_the_files(score, tmp_path):
    for seed, name in enumerate(FILES[:2]):
        (tmp_path / name).write_bytes(encoded(seed))
    here = score(tmp_path / FILES[0], tmp_path / FILES[1]).scores["quality"].tolist()
    output = "s3://scoring/out/scores.parquet"
    done = score(f"{FOLDER}/labels.csv", f"{FOLDER}/bytes.parquet", output=output)
    assert done.scores["quality"].tolist()[:2] == done.scores["quality"].tolist()[4:] == here
    assert "cannot be read" in done.scores["error"][3]
    assert pq.read_table(io.BytesIO(locate(output).read_bytes())).to_pylist() == done.as_json()["scores"]
    manifest = (locate("s3://scoring/out") / "scores.parquet.manifest.json").read_json()
    assert manifest["counts"] == {"images": 6, "without_score": 1, "not_taken": 0, "unlike": 0}


def test_an_output_in_a_missing_bucket_is_refused_before_anything_is_scored(score, monkeypatch):
    monkeypatch.setattr("pipelines.scoring.scoring_run.score_inputs", lambda *_: pytest.fail("scored"))
    with pytest.raises(InputError, match=r"^cannot write s3://nowhere/x\.csv[^\n]*: there is no such bucket"):
        score(f"{FOLDER}/0.png", output="s3://nowhere/x.csv")


def test_an_object_that_is_written_again_has_another_stamp():
    place = locate("s3://scoring/again #1.png")
    place.write_bytes(b"one")
    stamp = stamp_of(place.uri)
    assert unchanged({stamp, stamp_of("s3://scoring/absent.png")}) == {stamp}
    place.write_bytes(b"other")
    assert unchanged({stamp}).isdisjoint({stamp})
    place.delete()
    assert unchanged({stamp}) == set()
