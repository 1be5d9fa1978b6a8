"""Any table of labels, and what all sets have in common; and the real LIVEC where it is present."""

import csv
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from grmp_core.datasets import DATASETS, label_table, load
from grmp_core.datasets.labelled_set import IMAGE_TABLE, LabelledSet
from grmp_core.errors import InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.score_range import ScoreRange


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (value % 256, 0, 0)).save(path)


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., Path]:
    """Write labels.csv from rows, and the images that `present` names (all by default)."""

    def make(rows: Sequence[Sequence[object]], header: Sequence[str] = ("image", "mos"), absent: str = "") -> Path:
        for number, row in enumerate(rows):
            if row[0] != absent:
                draw(tmp_path / str(row[0]), 10 * number)
        path = tmp_path / "labels.csv"
        with open(path, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([header, *rows])
        return path

    return make


def column(labelled: LabelledSet, name: str) -> list:
    return labelled.table[name].to_pylist()


def test_table_gives_the_common_columns(make_table: Callable[..., Path]) -> None:
    path = make_table([("a.png", 1.0), ("sub/b.png", 3), ("c.png", 5)])
    labelled = load("table", str(path), score_min=0, score_max=5)
    assert labelled.table.schema == IMAGE_TABLE
    assert len(labelled) == 3
    assert labelled.image_paths[1] == str(path.parent / "sub/b.png")
    assert column(labelled, "mos") == [1.0, 3.0, 5.0]
    assert column(labelled, "quality") == pytest.approx([0.2, 0.6, 1.0])
    assert labelled.reference_ids == ["a.png", "sub/b.png", "c.png"]
    assert column(labelled, "distortion") == column(labelled, "level") == [None] * 3
    assert set(column(labelled, "dataset")) == {"table"}
    assert not labelled.rejected


def test_folder_parquet_and_csv_give_the_same(make_table: Callable[..., Path], tmp_path: Path) -> None:
    path = make_table([("a.png", 1.0), ("b.png", 3.5)])
    from_csv = load("table", str(path))
    assert load("table", str(tmp_path)).table.equals(from_csv.table)
    parquet = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "mos": [1.0, 3.5], "rater": [1, 2]}), parquet)
    assert load("table", str(parquet)).table.equals(from_csv.table)
    with pytest.raises(InputError, match=r"several label files, name one of labels\.csv, labels\.parquet"):
        load("table", str(tmp_path))


def test_observed_range_and_direction(make_table: Callable[..., Path]) -> None:
    path = make_table([("a.png", 20), ("b.png", 30), ("c.png", 60)])
    labelled = load("table", str(path), higher_is_better=False)
    assert column(labelled, "quality") == pytest.approx([1.0, 0.75, 0.0])
    assert labelled.score_range == ScoreRange(mos_min=20, mos_max=60, higher_is_better=False)
    assert "20 to 60" in labelled.notes[-1]


def test_named_columns_and_a_byte_order_mark(make_table: Callable[..., Path]) -> None:
    path = make_table([("a.png", "s1", 1), ("b.png", "s1", 2), ("c.png", "s2", 3)], ("file", "scene", "score"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    labelled = load("table", str(path), image_column="file", score_column="score", reference_column="scene")
    assert labelled.reference_ids == ["s1", "s1", "s2"]
    with pytest.raises(InputError, match=r"no column 'mos'; the columns are: file, scene, score"):
        load("table", str(path), image_column="file", score_column="mos")


def test_missing_image_names_its_line(make_table: Callable[..., Path]) -> None:
    path = make_table([("a.png", 1), ("b.png", 2), ("c.png", 3), ("d.png", 4)], absent="c.png")
    with pytest.raises(InputError, match=r"1 of 4 label rows cannot be used and 0 may .*line 4: image not found"):
        load("table", str(path))
    labelled = load("table", str(path), max_reject_fraction=0.25)
    assert len(labelled) == 3
    [reject] = labelled.rejected
    assert reject.path.endswith("c.png")
    assert "line 4" in reject.reason


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ("good", "'good' is not a number"),
        ("", "the score is empty"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("7", "outside 0..5"),
        ("3_5", "'3_5' is not a number"),
        ("3,5,1", "'3,5,1' is not a number"),
        ("٣", "is not a number"),
    ],
)
def test_bad_score_names_its_line(make_table: Callable[..., Path], score: str, reason: str) -> None:
    path = make_table([("a.png", 1), ("b.png", score), ("c.png", 3)])
    with pytest.raises(InputError, match=f"line 3: .*{reason}"):
        load("table", str(path), score_min=0, score_max=5)
    labelled = load("table", str(path), score_min=0, score_max=5, max_reject_fraction=0.34)
    assert column(labelled, "mos") == [1.0, 3.0]
    assert reason in labelled.rejected[0].reason
    assert len(load("table", str(path), score_min=0, score_max=5, max_reject_fraction=0.34)) == 2
    with pytest.raises(InputError, match="1 of 3 label rows cannot be used and 0 may be left out"):
        load("table", str(path), score_min=0, score_max=5, max_reject_fraction=0.33)


def test_scores_that_are_no_numbers_in_parquet(make_table: Callable[..., Path], tmp_path: Path) -> None:
    make_table([("a.png", 1), ("b.png", 2)])
    parquet = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "mos": [1.0, None]}), parquet)
    with pytest.raises(InputError, match="row 2: the score is empty"):
        load("table", str(parquet))
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "mos": [True, False]}), parquet)
    with pytest.raises(InputError, match="row 1: the score True is not a number"):
        load("table", str(parquet))


@pytest.mark.parametrize("max_reject_fraction", [0, 1])
def test_of_several_raters_none_is_picked(make_table: Callable[..., Path], max_reject_fraction: float) -> None:
    path = make_table([("a.png", 1), ("b.png", 2), ("./a.png", 3), ("c.png", 4), ("c.png", 4)])
    with pytest.raises(InputError, match=r"2 images .*a\.png, at labels\.csv line 2, labels\.csv line 4; .*groupby"):
        load("table", str(path), max_reject_fraction=max_reject_fraction)


def test_the_advice_for_several_raters_works(make_table: Callable[..., Path]) -> None:
    path = make_table([("a.png", 1), ("b.png", 2), ("a.png", 4)])
    with pytest.raises(InputError) as refused:
        load("table", str(path))
    advice = str(refused.value).rpartition("in pandas by ")[2].replace("mean.csv", str(path.parent / "mean.csv"))
    eval(advice, {"table": pd.read_csv(path)})  # noqa: S307
    assert column(load("table", str(path.parent / "mean.csv")), "mos") == [2.5, 2.0]


def test_decimal_scores_of_parquet(make_table: Callable[..., Path], tmp_path: Path) -> None:
    make_table([("a.png", 1), ("b.png", 2)])
    scores = pa.array([Decimal("1.25"), Decimal("3.50")], pa.decimal128(6, 2))
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "mos": scores}), tmp_path / "labels.parquet")
    assert column(load("table", str(tmp_path / "labels.parquet")), "mos") == [1.25, 3.5]


def test_koniq_as_published(tmp_path: Path) -> None:
    """Labels and images in two folders of the download, with columns of their own."""
    table = tmp_path / "koniq10k_scores_and_distributions/koniq10k_scores_and_distributions.csv"
    table.parent.mkdir()
    table.write_text('"image_name","c1","MOS"\n"1.jpg",0,2.5\n"2.jpg",0,4.5\n')
    draw(tmp_path / "1024x768/1.jpg", 1)
    draw(tmp_path / "1024x768/2.jpg", 9)
    columns = {"image_column": "image_name", "score_column": "MOS"}
    with pytest.raises(InputError, match=r"1\.jpg is in \.\./1024x768: set target\.image_folder=\.\./1024x768"):
        load("table", str(table), **columns)
    with pytest.raises(InputError, match=r"512x384: no such folder"):
        load("table", str(table), image_folder="../512x384", **columns)
    for folder in ("../1024x768", str(tmp_path / "1024x768")):
        labelled = load("table", str(table), image_folder=folder, **columns)
        assert labelled.image_paths == [str(tmp_path / "1024x768" / name) for name in ("1.jpg", "2.jpg")]
        assert column(labelled, "mos") == [2.5, 4.5]


def test_names_that_are_spelled_otherwise_are_found_and_counted(tmp_path: Path) -> None:
    for number, name in enumerate(("sub/é.png", "b.JPG", "c.jpg", "Ünit/d.png")):
        draw(tmp_path / unicodedata.normalize("NFD", name), number)
    names = ["sub\\é.png", "b.jpg", "c.jpg", "Ünit/d.png"]
    rows = [f"{unicodedata.normalize('NFC', name)},{score}" for score, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,mos", *rows]), encoding="utf-8")
    labelled = load("table", str(tmp_path))
    assert [Path(path).name for path in labelled.image_paths] == ["e\u0301.png", "b.JPG", "c.jpg", "d.png"]
    assert all(Path(path).is_file() for path in labelled.image_paths)
    assert [note.split(" ", 1)[0] for note in labelled.notes[:3]] == ["1", "1", "1"]
    assert [word in note for word, note in zip(("\\", ".JPG", "NFD"), labelled.notes, strict=False)] == [True] * 3


def test_two_files_that_a_name_may_stand_for_are_none(make_table: Callable[..., Path], tmp_path: Path) -> None:
    path = make_table([("a.JPG", 1), ("b.png", 2)], absent="a.JPG")
    draw(tmp_path / "a.jpg", 1)
    draw(tmp_path / "a.Jpg", 2)
    with pytest.raises(InputError, match="line 2: image not found"):
        load("table", str(path))


def test_two_names_of_one_file_are_two_ratings(make_table: Callable[..., Path], tmp_path: Path) -> None:
    path = make_table([("a.png", 1), ("b.png", 2), ("a.PNG", 3)], absent="a.PNG")
    with pytest.raises(InputError, match="rated in several rows"):
        load("table", str(path))


def test_equal_files_are_one_reference(make_table: Callable[..., Path], tmp_path: Path) -> None:
    path = make_table([("a.png", 1), ("b.png", 2), ("c.png", 3), ("d.png", 4)])
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    labelled = load("table", str(path))
    assert labelled.reference_ids == ["a.png", "b.png", "a.png", "d.png"]
    assert "2 files have the same bytes" in labelled.notes[0]


def test_a_file_that_cannot_be_read_is_compared_with_none(
    make_table: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced in `open`: permissions do not bind root, whom tests may run as."""
    path = make_table([("a.png", 1), ("b.png", 2), ("c.png", 3)])
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())

    def refusing(file: str, *rest: object) -> object:
        if file.endswith("b.png"):
            raise PermissionError(13, "Permission denied", file)
        return open(file, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(label_table, "open", refusing, raising=False)
    assert load("table", str(path)).reference_ids == ["a.png", "b.png", "a.png"]


def test_constant_scores_and_empty_files(make_table: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="all 2 scores are 3"):
        load("table", str(make_table([("a.png", 3), ("b.png", 3.0)])))
    with pytest.raises(InputError, match="no rows"):
        load("table", str(make_table([])))
    with pytest.raises(InputError, match="no usable label row"):
        load("table", str(make_table([("z.png", 3)], absent="z.png")), max_reject_fraction=1.0)


def test_what_is_no_label_file(tmp_path: Path) -> None:
    draw(tmp_path / "photos/a.png", 1)
    with pytest.raises(InputError, match=r"a folder without labels; .* target\.dataset=livec"):
        load("table", str(tmp_path / "photos"))
    with pytest.raises(InputError, match="no such label file or folder"):
        load("table", str(tmp_path / "absent.csv"))
    with pytest.raises(InputError, match=r"labels must be one of \.csv, \.tsv, \.parquet"):
        load("table", str(tmp_path / "photos/a.png"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        load("table", str(tmp_path / "bad.parquet"))
    (tmp_path / "bad.csv").write_bytes(b"image,mos\na.png,\xff\xfe\n")
    with pytest.raises(InputError, match="not a UTF-8 CSV"):
        load("table", str(tmp_path / "bad.csv"))
    (tmp_path / "noimage.csv").write_text("image,mos\n,3\n")
    with pytest.raises(InputError, match="line 2: the image name"):
        load("table", str(tmp_path / "noimage.csv"))


def test_a_row_without_a_name_costs_itself_only(make_table: Callable[..., Path]) -> None:
    rows = [("a.png", "s", 1), ("b.png", "", 2), ("c.png", "t", 3), ("d.png", "t", 4)]
    path = make_table(rows, ("image", "scene", "mos"))
    path.write_text(path.read_text().replace("d.png", "") + ",t,5\n")
    labelled = load("table", str(path), reference_column="scene", max_reject_fraction=0.6)
    assert labelled.reference_ids == ["s", "t"]
    assert [reject.reason.partition(";")[0] for reject in labelled.rejected] == [
        "labels.csv line 3: the reference is empty",
        "labels.csv line 5: the image name is ''",
        "labels.csv line 6: the image name is ''",
    ]


def test_unknown_names_and_bad_settings(make_table: Callable[..., Path]) -> None:
    path = str(make_table([("a.png", 1), ("b.png", 2)]))
    with pytest.raises(InputError, match="did you mean 'koniq10k'"):
        load("koniq", path)
    for settings in ({"score_min": 1}, {"score_min": 2, "score_max": 1}):
        with pytest.raises(InputError, match="score range"):
            load("table", path, **settings)
    for fraction in (-0.1, 1.5):
        with pytest.raises(InputError, match="max_reject_fraction must be from 0 to 1"):
            load("table", path, max_reject_fraction=fraction)
    with pytest.raises(InputError, match=r"unknown dataset 'x'; choose one of agiqa3k, biq2021, .*, table, or a"):
        load("x", path)
    with pytest.raises(InputError, match="no path"):
        load("livec", None)
    assert DATASETS[-1] == "table"


def test_score_range_goes_both_ways() -> None:
    for higher in (True, False):
        scale = ScoreRange(mos_min=-2, mos_max=6, higher_is_better=higher)
        scores = np.linspace(-2, 6, 9)
        np.testing.assert_allclose(scale.to_mos(scale.to_quality(scores)), scores, atol=1e-12)
        assert scale.to_quality(6.0) == (1.0 if higher else 0.0)
        assert scale.to_mos(1.0) == (6.0 if higher else -2.0)


def test_fingerprint_follows_content_not_place(make_table: Callable[..., Path], tmp_path: Path) -> None:
    rows = [("a.png", 1.0), ("b.png", 2.0), ("c.png", 3.0)]
    first = load("table", str(make_table(rows))).fingerprint()
    assert len(first) == 64
    assert load("table", str(make_table(rows[::-1]))).fingerprint() != first, "shots are drawn by row"
    assert load("table", str(make_table([*rows[:2], ("c.png", 3.1)]))).fingerprint() != first
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).rename(moved / name)
    (moved / "labels.csv").write_text("image,mos\na.png,1.0\nb.png,2.0\nc.png,3.0\n")
    assert load("table", str(moved)).fingerprint() == first
    with (moved / "b.png").open("ab") as file:
        file.write(b"another picture under the same name")
    assert load("table", str(moved)).fingerprint() != first


@pytest.mark.shared_data
def test_real_livec(shared_data: Path) -> None:
    labelled = load("livec", str(shared_data / "livec"))
    assert len(labelled) == 812
    assert not labelled.rejected
    assert labelled.mos.min() > 3
    assert labelled.mos.max() < 93
    assert not any(Path(path).stem in {f"t{k}" for k in range(1, 8)} for path in labelled.image_paths)
    assert labelled.mos[0] == pytest.approx(66.3595, abs=1e-4)
    assert Path(labelled.image_paths[0]).stem == "101"
    for path in labelled.image_paths[::200]:
        assert min(read_image(path).shape[:2]) >= 300
