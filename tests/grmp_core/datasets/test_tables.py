"""Label tables as people have them: what is recognized, and what is said of it."""

from __future__ import annotations

import builtins
import itertools
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.chart import BarChart, Reference

from grmp_core.datasets import LabelledSet, load
from grmp_core.datasets.tables import LabelTable, open_table, with_points
from grmp_core.datasets.usual_names import IMAGE_NAMES, SCORE_NAMES, recognize
from grmp_core.errors import InputError
from grmp_core.storage import locate
from tests.grmp_core.datasets.miniatures import draw, write_excel

ROWS = [("a.png", 1.5), ("b.png", 2.0), ("c d.png", 4.25)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, _ in ROWS:
        draw(tmp_path / name)
    return tmp_path


def check(labelled: LabelledSet) -> None:
    assert [Path(path).name for path in labelled.image_paths] == [name for name, _ in ROWS]
    assert labelled.mos.tolist() == [score for _, score in ROWS]


def opened(path: Path, text: str | bytes) -> LabelTable:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_table(locate(path))


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("image,mos\na.png,1.5\nb.png,2.0\nc d.png,4.25\n", []),
        ("image;mos\na.png;1.5\nb.png;2.0\nc d.png;4.25\n", ["semicolons between columns"]),
        ("image\tmos\na.png\t1.5\nb.png\t2.0\nc d.png\t4.25\n", ["tabs between columns"]),
        ("image|mos\na.png|1.5\nb.png|2.0\nc d.png|4.25\n", ["| between columns"]),
        ("\ufeffimage,mos\na.png,1.5\nb.png,2.0\nc d.png,4.25\n", ["a byte-order mark"]),
        ("image;mos\na.png;1,5\nb.png;2\nc d.png;4,25\n", ["semicolons", "a decimal comma, such as 1,5"]),
        ('image,mos\na.png,"1,5"\nb.png,2\n"c d.png","4,25"\n', ["a decimal comma"]),
        ("'image','mos'\n'a.png','1.5'\n'b.png','2.0'\n'c d.png','4.25'\n", ["single quotes"]),
        ('"image","mos"\r\n"a.png","1.5"\r\n\r\n"b.png","2.0"\r\n"c d.png","4.25"\r\n', []),
        (
            "File Name,Mean-Score\na.png,1.5\nb.png,2.0\nc d.png,4.25\n",
            ["'File Name', scores from 'Mean-Score'"],
        ),
    ],
)
def test_text_as_programs_write_it(photos: Path, text: str, notes: list[str]) -> None:
    (photos / "labels.csv").write_text(text, encoding="utf-8")
    labelled = load("table", str(photos))
    check(labelled)
    said = [note for note in labelled.notes if not note.startswith("score range")]
    assert len(said) == len(notes)
    assert all(part in note for part, note in zip(notes, said, strict=True))


def test_utf_16_of_spreadsheets(photos: Path) -> None:
    (photos / "labels.tsv").write_text("image\tmos\na.png\t1,5\nb.png\t2\nc d.png\t4,25\n", encoding="utf-16")
    labelled = load("table", str(photos))
    check(labelled)
    assert "tabs between columns, a byte-order mark, UTF-16" in labelled.notes[0]


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.ndjson", "labels.json"])
def test_json(photos: Path, name: str) -> None:
    objects = [f'{{"image": "{image}", "mos": {score}, "raters": {{"n": 3}}}}' for image, score in ROWS]
    text = "\n".join(objects) if name != "labels.json" else f"[{', '.join(objects)}]"
    (photos / name).write_text(text)
    check(load("table", str(photos / name)))


def test_json_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not JSON with one object a line"):
        opened(tmp_path / "a.jsonl", "{image: 1}")
    with pytest.raises(InputError, match=r"a\.jsonl line 2: not an object"):
        opened(tmp_path / "a.jsonl", '{"image": "a"}\n3\n')


def test_excel_with_lines_above_the_table(photos: Path) -> None:
    rows = [
        ["Ratings of May"],
        [],
        [None, "image", "remark", "mos"],
        *([None, name, "", score] for name, score in ROWS),
        [],
    ]
    write_excel(photos / "labels.xlsx", rows)
    check(load("table", str(photos)))
    with pytest.raises(InputError, match=r"no column 'stars'; the columns are: , image, remark, mos"):
        load("table", str(photos), image_column="image", score_column="stars")


def test_excel_takes_the_sheet_with_the_columns(photos: Path) -> None:
    book = Workbook()
    book.active.append(["nothing", "of interest"])
    sheet = book.create_sheet("scores")
    for row in [("image", "mos"), *ROWS]:
        sheet.append(row)
    book.save(photos / "labels.xlsx")
    labelled = load("table", str(photos), image_column="image", score_column="mos")
    check(labelled)
    assert "labels.xlsx: read from the sheet 'scores'" in labelled.notes
    with pytest.raises(InputError, match="no sheet 'May'; the sheets are: Sheet, scores"):
        open_table(locate(photos / "labels.xlsx"), sheet="May")


def rewrite_part(file: Path, part: str, change: Callable[[bytes], bytes]) -> None:
    """Change one of the files that an Excel file packs."""
    with zipfile.ZipFile(file) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    parts[part] = change(parts[part])
    with zipfile.ZipFile(file, "w") as packed:
        for name, data in parts.items():
            packed.writestr(name, data)


@pytest.mark.parametrize("size", ["A1:B2", "A1", "A1:A4"])
def test_excel_is_read_whole_whatever_size_it_names(photos: Path, size: str) -> None:
    write_excel(photos / "labels.xlsx", [("image", "mos"), *ROWS])
    wrong = f'<dimension ref="{size}"'.encode()
    rewrite_part(
        photos / "labels.xlsx",
        "xl/worksheets/sheet1.xml",
        lambda data: re.sub(rb'<dimension ref="A1:B4"', wrong, data),
    )
    check(load("table", str(photos)))


def test_excel_charts_are_no_tables(photos: Path) -> None:
    book = Workbook()
    for row in [("image", "mos"), *ROWS]:
        book.active.append(row)
    chart = BarChart()
    chart.add_data(Reference(book.active, min_col=2, min_row=1, max_row=4))
    book.create_chartsheet("plot", 0).add_chart(chart)
    book.save(photos / "labels.xlsx")
    check(load("table", str(photos)))
    with pytest.raises(InputError, match="no sheet 'plot'; the sheets are: Sheet"):
        open_table(locate(photos / "labels.xlsx"), sheet="plot")


def test_excel_with_a_damaged_sheet_is_one_line(photos: Path) -> None:
    write_excel(photos / "labels.xlsx", [("image", "mos"), *ROWS])
    rewrite_part(photos / "labels.xlsx", "xl/worksheets/sheet1.xml", lambda data: data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match=r"labels\.xlsx: not a readable Excel file: "):
        load("table", str(photos))


def test_excel_without_its_extra_and_damaged(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"not a readable Excel file"):
        opened(photos / "labels.xlsx", b"PK not really")
    with pytest.raises(InputError, match=r"save it as \.xlsx or \.csv"):
        opened(photos / "labels.xls", b"")
    imported = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "openpyxl":
            raise ImportError(name)
        return imported(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'grmp-iqa\[excel\]', or save it as CSV"):
        open_table(locate(photos / "labels.xlsx"))


def test_parquet_reads_no_other_column(tmp_path: Path) -> None:
    """A column of encoded images would not fit into memory with the labels."""
    pq.write_table(pa.table({"image": ["a"], "pixels": [b"x"], "mos": [1.0]}), tmp_path / "a.parquet")
    table = open_table(locate(tmp_path / "a.parquet"))
    assert list(table.rows(["mos", "image"])) == [("a.parquet row 1", (1.0, "a"))]
    with pytest.raises(InputError, match="no column 'score'; the columns are: image, pixels, mos"):
        table.rows(["score"])


def test_text_without_a_header_and_lines_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("3.5   a.png\n\n4.5\tb.png\n")
    table = open_table(locate(tmp_path / "a.txt"), header=("mos", "file"))
    assert list(table.rows(["file", "mos"])) == [("a.txt line 1", ["a.png", "3.5"]), ("a.txt line 3", ["b.png", "4.5"])]
    with pytest.raises(InputError, match=r"line 1 has 2 cells .* expected 3: mos, file, std"):
        open_table(locate(tmp_path / "a.txt"), header=("mos", "file", "std"))


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    table = opened(tmp_path / "a.csv", "image,mos,mos\na.png,1,2\n")
    with pytest.raises(InputError, match="the column 'mos' is there 2 times"):
        table.rows(["mos"])


@given(st.lists(st.decimals(-99, 99, places=2, allow_nan=False), min_size=1, max_size=8))
def test_decimal_commas_are_the_numbers_with_points(numbers: list) -> None:
    with_comma = [str(number).replace(".", ",") for number in numbers]
    changed, note = with_points(with_comma, "t")
    assert [float(str(text)) for text in changed] == [float(number) for number in numbers]
    assert note is not None


@pytest.mark.parametrize("scores", [["1,5", "2.5"], ["1,5", "good"], ["1", "2"], [1.5, None], ["1,234,567"]])
def test_scores_that_are_not_all_with_a_comma_stay(scores: list) -> None:
    assert with_points(scores, "t") == (scores, None)


@pytest.mark.parametrize(
    "scores",
    [["1,434", "987", "1,002"], ["1,434", 987, None], ["12", "-1,434"], ["1434", "1,434"], ["500", "123,456", "250"]],
)
def test_commas_that_may_stand_before_thousands_are_refused(scores: list) -> None:
    with pytest.raises(InputError, match=r"t: .* the comma in .* write -?(1434 or -?1\.434|123456 or 123\.456)"):
        with_points(scores, "t")


@pytest.mark.parametrize(
    "scores",
    [
        ["1,434", "2,511"],
        ["4,333", "1", "5", "3,667"],
        ["0", "33,333", "66,667", "100"],
        ["0,434", "987"],
        ["1,434", "1,5", "987"],
    ],
)
def test_decimal_commas_with_three_digits_are_read(scores: list) -> None:
    assert with_points(scores, "t")[0] == [score.replace(",", ".") for score in scores]


def test_usual_names_are_found_in_any_spelling() -> None:
    assert recognize(["Image Name", "MOS"], IMAGE_NAMES, "t", "image", "s") == "Image Name"
    assert recognize(["score", "mos", "MOS_zscore"], SCORE_NAMES, "t", "score", "s") == "mos"
    with pytest.raises(InputError, match=r"'MOS' and 'mos' may both be the score; name one by s"):
        recognize(["MOS", "mos"], SCORE_NAMES, "t", "score", "s")
    with pytest.raises(InputError, match=r"no column with a usual name of the score .*; the columns are: a, b"):
        recognize(["a", "b"], SCORE_NAMES, "t", "score", "target.score_column")
    for one, other in itertools.combinations(IMAGE_NAMES, 2):
        assert recognize([other, one], IMAGE_NAMES, "t", "image", "s") == one, "the likelier name wins"


def test_the_direction_of_difference_scores_has_to_be_said(photos: Path) -> None:
    (photos / "labels.csv").write_text("image,DMOS\na.png,1\nb.png,3\n")
    with pytest.raises(InputError, match=r"'DMOS' may hold differences.*target\.higher_is_better to false"):
        load("table", str(photos))
    assert load("table", str(photos), higher_is_better=False).quality.tolist() == [1, 0]
    assert load("table", str(photos), higher_is_better=True).quality.tolist() == [0, 1]


def test_weights_of_labels_come_from_a_column_of_that_name_or_another(photos: Path) -> None:
    def load_from(text: str, **settings: str) -> LabelledSet:
        (photos / "labels.csv").write_text(text)
        return load("table", str(photos / "labels.csv"), max_reject_fraction=0.9, **settings)

    text = "image,mos,weight,votes\na.png,1,0.5,3\nb.png,2,2,4\n"
    weighted, by_votes = load_from(text), load_from(text, weight_column="votes")
    np.testing.assert_array_equal(weighted.weights, [0.5, 2])
    np.testing.assert_array_equal(by_votes.weights, [3, 4])
    assert "labels count in training by the column 'weight'" in weighted.notes
    none = load_from(text, weight_column="")
    assert none.weights is None
    plain = load_from("image,mos\na.png,1\nb.png,2\n")
    assert plain.fingerprint() == none.fingerprint() != weighted.fingerprint()
    for name in ("c.png", "d.png", "e.png"):
        draw(photos / name)
    bad = load_from("image,mos,weight\na.png,1,0\nb.png,2,1\nc.png,3,\nd.png,4,inf\ne.png,5,2\n")
    reasons = [reject.reason.rsplit(": ", 1)[-1] for reject in bad.rejected]
    assert reasons == [f"the weight {value} is no number above 0" for value in ("'0'", "''", "'inf'")]


def test_texts_in_json_lines_may_hold_other_ends_of_lines(tmp_path: Path) -> None:
    texts = ["a\u2028b", "x\u0085y\u2029", "plain"]
    for end in ("\n", "\r\n"):
        lines = [json.dumps({"image": "a.png", "prompt": text}, ensure_ascii=False) for text in texts]
        (tmp_path / "t.jsonl").write_bytes(end.join(lines).encode())
        rows = list(open_table(locate(tmp_path / "t.jsonl")).rows(["prompt"]))
        assert [values for _, values in rows] == [[text] for text in texts]
