"""A scoring that goes on after an interruption uses no score of a file that was written again. Without Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import Bundle
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.scoring import batch_scorer, file_stamps
from pipelines.scoring.image_tables import ImageInput, images_in_table
from pipelines.scoring.score_rows import Parts

CONFIG = Config(views=ViewConfig(score_grid=1), score=ScoreConfig(local_images=16))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return arms.random_prompts(CONFIG)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were really scored; a part is kept every two."""
    names: list[str] = []
    plain = batch_scorer._score_here

    def score_here(config: Config, bundle: Bundle, where: str, images: list[ImageInput]) -> Iterator[dict]:
        names.extend(image.name for image in images)
        return plain(config, bundle, where, images)

    monkeypatch.setattr(batch_scorer, "_score_here", score_here)
    monkeypatch.setattr(batch_scorer, "PART_ROWS", 2)
    return names


def picture(seed: int) -> bytes:
    return cv2.imencode(".png", scenes.reference(seed, 230, 300))[1].tobytes()


def write(file: Path, names: str, cells: list[object] | None = None) -> None:
    """A table of a picture a letter, or of other cells. It always has another time of change."""
    cells = [picture(ord(name)) for name in names] if cells is None else cells
    pq.write_table(pa.table({"image": cells, "path": list(names)}), file)
    changed(file)


def changed(file: Path) -> None:
    changed.seconds = getattr(changed, "seconds", 1_700_000_000) + 1  # type: ignore[attr-defined]
    os.utime(file, (changed.seconds, changed.seconds))  # type: ignore[attr-defined]


def score(bundle: Bundle, images: list[ImageInput], folder: Path | None = None) -> pd.DataFrame:
    parts = None if folder is None else Parts.of(locate(folder / "scores.csv"), bundle, CONFIG)
    return batch_scorer.score_inputs(CONFIG, bundle, "test", images, parts)


def test_rows_of_a_table_that_was_written_again_are_scored_again(bundle: Bundle, asked: list[str], tmp_path: Path):
    table = tmp_path / "t.parquet"
    write(table, "abcd")
    first = score(bundle, images_in_table(locate(table)), tmp_path)
    assert score(bundle, images_in_table(locate(table)), tmp_path).equals(first)
    assert asked == list("abcd"), "the second run had the rows of the first"
    write(table, "bcda")
    again = score(bundle, images_in_table(locate(table)), tmp_path)
    assert again["image_path"].tolist() == list("bcda")
    assert again.equals(score(bundle, images_in_table(locate(table))))


def test_an_image_that_was_written_again_is_scored_again(bundle: Bundle, asked: list[str], tmp_path: Path):
    files = [tmp_path / f"{name}.png" for name in "abcd"]
    for file in files:
        file.write_bytes(picture(ord(file.stem)))
    images = [ImageInput.file(str(file)) for file in files]
    score(bundle, images, tmp_path)
    files[1].write_bytes(picture(1))
    changed(files[1])
    asked.clear()
    again = score(bundle, images, tmp_path)
    assert asked == [str(files[1])]
    assert again.equals(score(bundle, images))
    files[2].unlink()
    assert score(bundle, images, tmp_path)["error"][2] == "no such file"


def test_an_image_that_a_row_names_is_looked_at_as_its_table_is(bundle: Bundle, asked: list[str], tmp_path: Path):
    (tmp_path / "x.png").write_bytes(picture(1))
    (tmp_path / "y.png").write_bytes(picture(2))
    table = tmp_path / "t.parquet"
    write(table, "ab", [{"bytes": None, "path": "x.png"}, {"bytes": None, "path": "y.png"}])
    score(bundle, images_in_table(locate(table)), tmp_path)
    (tmp_path / "y.png").write_bytes(picture(3))
    changed(tmp_path / "y.png")
    asked.clear()
    again = score(bundle, images_in_table(locate(table)), tmp_path)
    assert asked == ["y.png"]
    assert again.equals(score(bundle, images_in_table(locate(table))))


def test_a_table_is_looked_at_once(bundle: Bundle, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = tmp_path / "t.parquet"
    write(table, "abcd")
    score(bundle, images_in_table(locate(table)), tmp_path)
    looked: list[str] = []
    plain = file_stamps.stamp_of
    monkeypatch.setattr(file_stamps, "stamp_of", lambda path: looked.append(path) or plain(path))
    score(bundle, images_in_table(locate(table)), tmp_path)
    assert looked == [str(table)]
    assert asked == list("abcd")


def test_a_row_has_the_name_that_the_table_gives_it_now(bundle: Bundle, asked: list[str], tmp_path: Path):
    table = tmp_path / "t.parquet"
    write(table, "ab")
    images = images_in_table(locate(table))
    score(bundle, images, tmp_path)
    renamed = [ImageInput(name=f"new {i.name}", path=i.path, row=i.row, folder=i.folder) for i in images]
    assert score(bundle, renamed, tmp_path)["image_path"].tolist() == ["new a", "new b"]
    assert asked == ["a", "b"]
