"""From names to images, on this machine: files, folders, patterns, and tables of every kind."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grmp_core.errors import ImageError, InputError
from pipelines.scoring import image_tables
from pipelines.scoring.image_tables import ImageInput, ImageReader
from pipelines.scoring.inputs import find_images
from tests.pipelines.scoring.conftest import encoded

STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def names(*entries: object) -> list[str]:
    return [image.name for image in find_images([str(entry) for entry in entries]).images]


def read(entry: object) -> list[object]:
    """Source of each image as the scorer gets it; the reason where there is none."""
    reader = ImageReader()
    sources = [reader.read(image) for image in find_images([str(entry)]).images]
    return [source.reason if isinstance(source, ImageError) else source for source in sources]


def test_files_folders_and_patterns_in_the_order_they_were_named(pictures, monkeypatch):
    one, two, three = (str(pictures / name) for name in ("0.png", "1.png", "sub/2.png"))
    assert names(two, pictures) == [two, one, two, three]
    assert names(f"{pictures}/*.png") == [one, two]
    assert names(f"{pictures}/**/*.png") == [one, two, three]
    assert names(f"file://{one}", f"file://{pictures}/sub", f"file://{pictures}/*.png") == [one, three, one, two]
    monkeypatch.chdir(pictures)
    assert names("1.png", "sub") == ["1.png", "sub/2.png"]


@pytest.mark.parametrize("name", ["é ü 漢字.png", "\N{GRINNING FACE}.png", "a #%?.png", "[x].png", " .png", "a\nb.png"])
def test_any_unicode_name_is_found(tmp_path, name):
    folder = tmp_path / "é #1"
    folder.mkdir()
    (folder / name).write_bytes(b"x")
    assert names(folder) == names(folder / name) == [str(folder / name)]


def test_a_name_that_is_not_utf8_is_an_input_with_a_problem(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(0))
    (image,) = find_images([str(tmp_path)]).images
    assert image.name == f"{tmp_path}/caf\\xe9.png"
    assert read(tmp_path) == ["its name is not UTF-8; rename it"]
    os.rename(tmp_path / os.fsdecode(b"caf\xe9.png"), tmp_path / os.fsdecode(b"caf\xe9.parquet"))
    with pytest.raises(InputError, match="its name is not UTF-8"):
        find_images([str(tmp_path / os.fsdecode(b"caf\xe9.parquet"))])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("none.png", "none.png: there is no such file or folder"),
        ("none*.png", "no image found"),
        ("none.parquet", "there is nothing of that name"),
        (f"{300 * 'x'}.parquet", "File name too long; correct the name"),
        (f"{300 * 'x'}.png", "there is no such file"),
        ("none*.parquet", "there is nothing of that name"),
        ("none.csv", "there is nothing of that name"),
        ("", "there is no such file or folder"),
        ("file:///none.png", "/none.png: there is no such file or folder"),
        ("https://host/a.png", "use a local path"),
        ("empty", "no image found"),
        ("tables", r"no image found .1 file not taken: \.parquet 1; .*part.parquet: a table, .* by a pattern such as"),
        ("empty.parquet", r"the folder .*/empty.parquet holds no \.parquet file"),
    ],
)
def test_an_entry_that_names_no_image_is_one_line(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "tables", "empty.parquet"):
        (tmp_path / folder).mkdir()
    pd.DataFrame({"image": ["a.png"]}).to_parquet(tmp_path / "tables" / "part.parquet")
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        find_images([entry])


def test_an_entry_that_cannot_be_used_costs_a_row_beside_others(pictures, capsys):
    (pictures / "broken.parquet").write_bytes(b"")
    good, broken = str(pictures / "0.png"), str(pictures / "broken.parquet")
    entries = [broken, good, "none.png", "s4://none", os.fsdecode(b"\xe9.csv")]
    images = find_images(entries).images
    assert [image.name for image in images] == [broken, good, "none.png", "s4://none", "\\xe9.csv"]
    words = ["is no readable Parquet file", "", "there is no such file", "cannot open 's4://none'", "is not UTF-8"]
    assert all(word in image.problem for word, image in zip(words, images, strict=True))
    assert images[1].problem == ""
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("score.images: ")]) == 4
    with pytest.raises(InputError, match=r"^score\.images: .*; score\.images: .*$"):
        find_images([broken, "none.png"])


@pytest.mark.parametrize("column", image_tables.IMAGE_COLUMNS)
@pytest.mark.parametrize("ending", [".parquet", ".csv", ".CSV"])
def test_paths_in_a_table_are_as_seen_from_it(pictures, column, ending):
    paths = ["0.png", "sub/../1.png", str(pictures / "sub" / "2.png"), "s3://bucket/3.png", f"file://{pictures}/0.png"]
    frame = pd.DataFrame({"score": range(len(paths)), column: paths})
    table = pictures / f"table{ending}"
    frame.to_parquet(table) if ending == ".parquet" else frame.to_csv(table, index=False)
    local = [str(pictures / name) for name in ("0.png", "1.png", "sub/2.png")]
    assert names(table) == names(f"{pictures}/t*{ending}") == [*local, "s3://bucket/3.png", local[0]]


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_folder_of_parts_is_one_table(pictures, ending):
    folder = pictures / f"parts{ending}"
    (folder / "split=b").mkdir(parents=True)
    for part, image in (("part-1", "1.png"), ("part-0", "0.png"), ("split=b/part-2", "sub/2.png"), ("_x", "no.png")):
        frame = pd.DataFrame({"image": [image]})
        file = folder / f"{part}{ending}"
        frame.to_parquet(file) if ending == ".parquet" else frame.to_csv(file, index=False)
    (folder / "_SUCCESS").touch()
    expected = [str(pictures / name) for name in ("0.png", "1.png", "sub/2.png")]
    assert names(folder) == names(f"{folder}/") == names(f"{pictures}/*{ending}") == expected
    assert names(f"{pictures}/**/*{ending}") == expected  # the folder, and not its files once more


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_paths_of_any_text_type(tmp_path, kind):
    pq.write_table(pa.table({"image": pa.array(["a.png", None, ""]).cast(kind)}), tmp_path / "t.parquet")
    images = find_images([str(tmp_path / "t.parquet")]).images
    assert [image.name for image in images] == [f"{tmp_path}/a.png", "t.parquet row 2", "t.parquet row 3"]
    assert [image.problem for image in images] == ["", *["the row names no image"] * 2]


def test_a_row_of_a_csv_without_a_name_has_its_line(tmp_path):
    (tmp_path / "t.csv").write_bytes("\ufeffmos, image \n1,é.png\n2,\n\n3\n".encode())
    images = find_images([str(tmp_path / "t.csv")]).images
    assert [image.name for image in images] == [f"{tmp_path}/é.png", "t.csv line 3", "t.csv line 5"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bytes_in_a_column_are_the_images(tmp_path, kind):
    data = [encoded(seed) for seed in range(3)]
    file = tmp_path / "bytes.parquet"
    pq.write_table(pa.table({"image": pa.array([*data, None, b""], kind), "label": range(5)}), file)
    assert names(file) == [f"{file} row {row}" for row in range(1, 6)]
    assert read(file) == [*data, "the row holds no image", b""]
    pq.write_table(pa.table({"image_path": ["x.png", "y.png"], "image": pa.array(data[:2], kind)}), file)
    assert names(file) == ["x.png", "y.png"]
    assert read(file) == data[:2]


def test_structs_of_hugging_face_are_the_images(pictures, monkeypatch):
    """Through row groups, in any order, and a few rows at a time."""
    monkeypatch.setattr(image_tables, "_ROWS_AT_ONCE", 2)
    data = [encoded(seed) for seed in range(7)]
    cells = [{"bytes": image, "path": f"img/{i}.png" if i else None} for i, image in enumerate(data)]
    cells += [{"bytes": None, "path": "sub/2.png"}, {"bytes": None, "path": None}, None]
    file = pictures / "parts.parquet" / "part.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table({"image": pa.array(cells, STRUCT)}), file, row_group_size=3)
    images = find_images([str(file.parent)]).images
    rows = [f"{file} row {row}" for row in (1, 9, 10)]
    assert [image.name for image in images] == [rows[0], *(f"img/{i}.png" for i in range(1, 7)), "sub/2.png", *rows[1:]]
    assert len({image.key for image in images}) == len(images)
    expected = [*data, str(pictures / "sub" / "2.png"), *["the row holds no image"] * 2]
    assert read(file.parent) == expected
    reader = ImageReader()
    for row in (6, 1, 2, 7, 0, 5):
        assert reader.read(images[row]) == expected[row]


def test_a_damaged_page_costs_the_rows_of_its_row_group(tmp_path):
    data = [encoded(seed) for seed in range(4)]
    file = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"image": pa.array(data)}), file, row_group_size=2, compression="none", use_dictionary=False
    )
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(0)
    raw = bytearray(file.read_bytes())
    raw[chunk.data_page_offset : chunk.data_page_offset + 12] = b"\xff" * 12
    file.write_bytes(raw)
    first, second, *others = read(file)
    assert first.startswith(f"cannot be read from {file} (")
    assert second.startswith("cannot be read from")
    assert others == data[2:]


def test_a_table_that_is_gone_when_its_image_is_read_costs_the_row():
    reason = ImageReader().read(ImageInput(name="x", path="/none.parquet", row=0, folder="/"))
    assert isinstance(reason, ImageError)
    assert "cannot be read from /none.parquet" in reason.reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"", "is no readable Parquet file"),
        ("t.parquet", b"PAR1PAR1", "is no readable Parquet file"),
        ("t.parquet", b"no parquet at all", "is no readable Parquet file"),
        ("t.parquet", pa.table({"mos": [1]}), "has no column of images .image_path, image, .*; its columns: mos"),
        ("t.parquet", pa.table({"image": [1]}), "the column image of .* holds int64; it must hold paths"),
        ("t.parquet", pa.table({"image": pa.array([[1, 2]])}), "holds list<"),
        ("t.parquet", pa.table({"image": pa.array([], pa.string())}), "has no rows"),
        ("t.parquet", pa.table({"image": pa.array([], pa.binary())}), "has no rows"),
        ("t.csv", b"", "has no column of images .*; its columns: none"),
        ("t.csv", b"\xff\xfe\x00", "not a UTF-8 CSV file"),
        ("t.csv", b"image\n\xff.png\n", "not a UTF-8 CSV file"),
        ("t.csv", b"image\n" + 500_000 * b"a.png\n" + b"\xff.png\n", "not a UTF-8 CSV file"),
        ("t.csv", b"image\n", "has no rows"),
        ("t.csv", b"image,image\na,b\n", "the column 'image' is there 2 times"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path, name, content, message):
    file = tmp_path / name
    pq.write_table(content, file) if isinstance(content, pa.Table) else file.write_bytes(content)
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$") as refused:
        find_images([str(file)])
    assert str(file) in str(refused.value)
    folder = tmp_path / f"parts{file.suffix}"
    folder.mkdir()
    shutil.move(file, folder / name)
    if "no rows" not in message:
        with pytest.raises(InputError, match=re.escape(str(folder / name))):
            find_images([str(folder)])


@pytest.fixture
def cases(shared_data) -> Path:
    folder = shared_data.parent / "cases" / "parquet"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder


@pytest.mark.shared_data
def test_the_shared_cases(cases):
    assert names(cases / "parts.parquet") == [f"{cases}/img/{i}.png" for i in range(3)]
    assert names(cases / "struct.parquet") == [f"img/{i}.png" for i in range(3)]
    assert all(source[:4] == b"\x89PNG" for source in read(cases / "struct.parquet"))
    for name in ("empty", "broken"):
        with pytest.raises(InputError, match=rf"^[^\n]*{name}.parquet is no readable Parquet file[^\n]*$"):
            find_images([str(cases / f"{name}.parquet")])
