"""Sets by a description of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from grmp_core.datasets import load
from grmp_core.errors import InputError
from tests.grmp_core.datasets.miniatures import draw, write_csv


def test_a_description_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("826373.jpg", "1755366.jpg", "191733.jpg"):
        draw(tmp_path / "mine/photos" / name)
    rows = [["826373.jpg", "s1", "5,0", "fit"], ["1755366.jpg", "s1", "3", "fit"], ["191733.jpg", "s2", "1", "hold"]]
    lines = [";".join(row) for row in [["file", "scene", "stars", "fold"], *rows]]
    (tmp_path / "mine/ratings.csv").write_text("\n".join(lines))
    description = tmp_path / "mine/my_set.yaml"
    description.write_text(
        "tables: ratings.csv\nimages: photos\nimage: file\nscore: stars\nrange: [1, 5]\nreference: scene\n"
        "part: fold\nparts: {fit: train, hold: test}\n"
    )
    labelled = load(str(description), None)
    assert labelled.name == "my_set"
    assert labelled.quality.tolist() == [1, 0.5, 0]
    assert labelled.reference_ids == ["my_set/s1", "my_set/s1", "my_set/s2"]
    assert labelled.parts == ["train", "train", "test"]
    assert any("semicolons" in note for note in labelled.notes)
    assert any("decimal comma" in note for note in labelled.notes)
    assert load(str(description), str(tmp_path / "mine")).fingerprint() == labelled.fingerprint()


def described(folder: Path, text: str, rows: list[list[object]]) -> Path:
    """A description beside its table t.csv, with images a_1.png, a_2.png, b_1.png, b_2.png."""
    for name in ("a_1", "a_2", "b_1", "b_2"):
        draw(folder / f"{name}.png")
    write_csv(folder / "t.csv", rows)
    (folder / "my.yaml").write_text(f"tables: t.csv\nrange: [1, 5]\n{text}")
    return folder / "my.yaml"


NAMES = ["a_1.png", "a_2.png", "b_1.png", "b_2.png"]
PATTERN = "pattern: '(?P<scene>[ab])_(?P<take>[0-9])\\.png'\n"
GRADES = "lookup: {grade: {good: {mos: '5', use: 'yes'}, fair: {mos: '3', use: 'yes'}, none: {mos: '9', use: 'no'}}}\n"


@pytest.mark.parametrize(
    ("text", "header", "values", "kept"),
    [
        (PATTERN + "drop: [{field: take, equals: ['2'], why: spare}]", "mos", [1, 2, 3, 4], {0: 1, 2: 3}),
        (GRADES + "drop: [{field: use, equals: ['no'], why: spare}]", "grade", ["good", "none", "fair", "none"],
         {0: 5, 2: 3}),
        (GRADES + "drop_outside_range: true", "grade", ["good", "none", "fair", "none"], {0: 5, 2: 3}),
        (PATTERN + "lookup: {take: {'1': {mos: '4'}, '2': {mos: '2'}}}", "note", ["", "", "", ""],
         {0: 4, 1: 2, 2: 4, 3: 2}),
        ("pattern: '._(?P<mos>[0-9])\\.png'", "note", ["", "", "", ""], {0: 1, 1: 2, 2: 1, 3: 2}),
        ("lookup: {grade: {x: {kind: good}, y: {kind: fair}}, kind: {good: {mos: '5'}, fair: {mos: '3'}}}", "grade",
         ["x", "y", "x", "y"], {0: 5, 1: 3, 2: 5, 3: 3}),
    ],
)  # fmt: skip
def test_fields_that_are_made_can_be_used_like_columns(
    text: str, header: str, values: list, kept: dict[int, float], tmp_path: Path
) -> None:
    rows = [["image", header], *([name, value] for name, value in zip(NAMES, values, strict=True))]
    labelled = load(str(described(tmp_path, text, rows)), None)
    assert [Path(path).name for path in labelled.image_paths] == [NAMES[index] for index in kept]
    assert labelled.mos.tolist() == list(kept.values())


def test_an_image_is_named_by_a_column_stem(tmp_path: Path) -> None:
    rows = [["stem", "mos"], ["a_1", 1], ["b_2", 5]]
    file = described(tmp_path, "image: '{stem}.png'\nreference: stem", rows)
    labelled = load(str(file), None)
    assert [Path(path).name for path in labelled.image_paths] == ["a_1.png", "b_2.png"]
    assert labelled.reference_ids == ["my/a_1", "my/b_2"]
    write_csv(tmp_path / "t.csv", [["file", "mos"], ["a_1", 1]])
    with pytest.raises(InputError, match="no column 'stem'; the columns are: file, mos"):
        load(str(file), None)


@pytest.mark.parametrize(
    "text",
    [
        "drop: [{field: use, equals: ['no'], why: spare}]",
        "reference: use",
        "distortion: use",
        "score: use",
        "score: use\ndrop_outside_range: true",
        "image: 'a_{use}.png'",
    ],
)
def test_a_field_that_a_row_lacks_is_named(text: str, tmp_path: Path) -> None:
    rows = [["image", "mos", "grade"], ["a_1.png", 1, "good"], ["b_1.png", 5, "fair"]]
    file = described(tmp_path, f"lookup: {{grade: {{good: {{use: '2'}}, fair: {{other: x}}}}}}\n{text}", rows)
    with pytest.raises(
        InputError, match=r"t\.csv line 3: the row has no field 'use'; its fields are .*other"
    ) as refused:
        load(str(file), None, max_reject_fraction=0.4)
    assert "\n" not in str(refused.value)


def test_names_of_an_official_part_that_no_row_has_are_told(tmp_path: Path) -> None:
    rows = [["image", "mos", "why"], *([name, 1 + k, "spare" if k == 3 else ""] for k, name in enumerate(NAMES))]
    text = "drop: [{field: why, equals: [spare], why: spare}]\npart_files: {test: {file: test.csv, image: name}}"
    file = described(tmp_path, text, rows)
    write_csv(tmp_path / "test.csv", [["name"], ["b_1.png"], ["b_2.png"], ["c.png"], ["d.png"]])
    labelled = load(str(file), None)
    assert labelled.parts == ["train", "train", "test"]
    assert "2 of the 4 images of test.csv have no label row, such as c.png" in labelled.notes
    write_csv(tmp_path / "test.csv", [["name"], ["b_1.png"], ["b_2.png"]])  # one of them is left out, and known
    assert not any("test.csv" in note for note in load(str(file), None).notes)
    write_csv(tmp_path / "test.csv", [["name"], ["b_1"], ["b_2"]])
    with pytest.raises(InputError, match=r"none of the 2 images of test\.csv has a label row; .*'b_1', .*'a_1\.png'"):
        load(str(file), None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tables: a.csv\nimagess: x", r"imagess: .*; the keys are title, folders"),
        ("tables: a.csv\nrange: [1]", "range"),
        ("tables: a.csv\nmatch: fuzzy", "match"),
        ("tables: a.csv\npattern: '('", "not a regular expression"),
        ("- a\n- b", "must hold keys"),
        ("tables: [", r"line \d: not YAML"),
        ("alternatives: [{tabels: a.csv}]", "tabels"),
    ],
)
def test_a_wrong_description_is_one_line(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=problem) as refused:
        load(str(tmp_path / "bad.yaml"), None)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="no such description"):
        load(str(tmp_path / "absent.yaml"), None)
