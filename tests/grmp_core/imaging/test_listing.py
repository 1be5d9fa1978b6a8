"""Listing: what folders hold is taken by content, and what is not taken is told."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.imaging.kinds import kind_of_head
from grmp_core.imaging.listing import Listing, NotTaken, evenly_chosen, list_images
from grmp_core.imaging.readers import READERS
from tests.grmp_core.imaging import pictures

HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40)
ENDINGS = "jpg JPEG jpe jfif mpo png apng bmp dib webp tif tiff gif ppm pgm pbm pnm avif jp2 j2k j2c jpc jpf jpx"


@pytest.fixture(scope="module")
def png() -> bytes:
    return pictures.encoded(pictures.photo(8, 8), "PNG")


def names_in(folder: Path, listing: Listing) -> list[str]:
    return [os.path.relpath(path, folder) for path in listing.paths]


def left_out(folder: Path, listing: Listing) -> dict[str, str]:
    return {os.path.relpath(left.path, folder): left.reason for left in listing.not_taken}


def test_endings_of_images_are_taken_unseen(tmp_path):
    for i, ending in enumerate(ENDINGS.split()):
        (tmp_path / f"{i:02}.{ending}").write_bytes(b"damaged")
    listing = list_images(str(tmp_path))
    assert len(listing.paths) == len(ENDINGS.split())
    assert listing.summary() is None


@pytest.mark.parametrize(
    "fmt", ["JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "MPO", "big TIFF", "J2K"]
)
@pytest.mark.parametrize("name", ["without", "photo.heic", "a.b.dat"])
def test_images_under_any_name_are_taken(tmp_path, fmt, name):
    how = {"big TIFF": ("TIFF", {"big_tiff": True}), "J2K": ("JPEG2000", {"no_jp2": True})}
    encoder, options = how.get(fmt, (fmt, {}))
    (tmp_path / name).write_bytes(pictures.encoded(pictures.photo(16, 16), encoder, **options))
    listing = list_images(str(tmp_path))
    assert names_in(tmp_path, listing) == [name]
    assert read_image(listing.paths[0]).shape == (16, 16, 3)


@pytest.mark.parametrize(
    "text", ["BMW is a car, and this is no bitmap", "Python 3.11", "P", "", "P5", "II", "(c) 2024", "RIFF    WAVEfmt "]
)
def test_texts_that_begin_like_images_are_none(text):
    assert kind_of_head(text.encode()) is None


def test_what_is_not_taken_is_told_with_its_reason(tmp_path, png, monkeypatch):
    for kind in ("HEIC", "JPEG XL"):
        monkeypatch.delitem(READERS, kind, raising=False)
    junk = [struct.pack("<HHLL", 254, 4, 1, 1)]
    raw = pictures.tiff_of([bytes(192)], pictures.colour_tags(8, 8, 8), junk=junk)
    files = {
        "a.png": png,
        "photo.heic": HEIC,
        "other.heif": b"\x00\x00\x00\x14ftypmif1\x00\x00\x00\x00heic" + bytes(40),
        "camera.nef": raw,
        "camera.cr2": b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(60),
        "new.jxl": b"\xff\x0a" + bytes(60),
        "labels.csv": b"image,mos\n",
        "notes": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    listing = list_images(str(tmp_path))
    assert names_in(tmp_path, listing) == ["a.png"]
    reasons = left_out(tmp_path, listing)
    assert list(reasons) == sorted({*files, "pipe", "gone"} - {"a.png"})
    assert reasons["labels.csv"] == reasons["notes"] == "no image by its content"
    assert reasons["pipe"] == "no regular file"
    assert "No such file" in reasons["gone"]
    for name, word in {"camera.nef": "raw data", "camera.cr2": "raw data", "new.jxl": "JPEG XL"}.items():
        assert word in reasons[name]
    assert listing.summary() == (
        "9 files not taken: without ending 3, .cr2 1, .csv 1, .heic 1, .heif 1, .jxl 1, .nef 1"
    )


def test_heic_is_named_where_it_cannot_be_decoded(tmp_path, png, monkeypatch):
    monkeypatch.delitem(READERS, "HEIC", raising=False)
    for i in range(3):
        (tmp_path / f"{i}.heic").write_bytes(HEIC)
    (tmp_path / "a.png").write_bytes(png)
    listing = list_images(str(tmp_path))
    assert listing.summary() == "3 files not taken: .heic 3"
    assert "grmp-iqa[formats]" in listing.not_taken[0].reason
    with pytest.raises(ImageError, match="HEIC"):
        read_image(HEIC)


def test_summaries_name_the_most_frequent_endings():
    ends = [ending for i in range(10) for ending in [f".e{i}"] * (10 - i)]
    listing = Listing((), tuple(NotTaken("x", "y", ending) for ending in ends))
    assert listing.summary() == "55 files not taken: .e0 10, .e1 9, .e2 8, .e3 7, .e4 6, .e5 5, .e6 4, .e7 3, others 3"
    assert Listing((), (NotTaken("x", "y", ".txt"),)).summary() == "1 file not taken: .txt 1"


def test_linked_folders_and_files_are_followed_and_circles_end(tmp_path, png):
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    (photos / "real").mkdir(parents=True)
    (elsewhere / "deep").mkdir(parents=True)
    for path in (photos / "real" / "a.png", elsewhere / "b.png", elsewhere / "deep" / "c"):
        path.write_bytes(png)
    (photos / "linked").symlink_to(elsewhere)
    (photos / "again").symlink_to(photos / "real")
    (photos / "real" / "up").symlink_to(photos)
    (elsewhere / "deep" / "round").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(photos)
    (photos / "file.png").symlink_to(elsewhere / "b.png")
    (photos / "itself").symlink_to(photos / "itself")
    expected = ["file.png", "linked/b.png", "linked/deep/c", "real/a.png"]
    for pattern in (photos, photos / "**", photos / "**" / "*"):
        listing = list_images(str(pattern))
        assert names_in(photos, listing) == expected
        reasons = left_out(photos, listing)
        assert {name for name, reason in reasons.items() if "already" in reason} == {
            "again",
            "real/up",
            "linked/deep/round",
            "linked/back",
        }
        assert "itself" in reasons
    assert names_in(photos, list_images(str(photos / "**" / "*.png"))) == ["file.png", "linked/b.png", "real/a.png"]
    assert names_in(photos, list_images(str(photos / "*" / "*.png"))) == ["again/a.png", "linked/b.png", "real/a.png"]


def test_a_folder_of_links_alone_is_a_folder_of_images(tmp_path, png):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.png").write_bytes(png)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "set").symlink_to(tmp_path / "far")
    assert names_in(tmp_path / "links", list_images(str(tmp_path / "links"))) == ["set/a.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read_are_told(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "closed").mkdir(mode=0)
    assert "Permission denied" in left_out(tmp_path, list_images(str(tmp_path)))["closed"]


def test_patterns_and_single_files(tmp_path, monkeypatch):
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", "._a.png", ".cache/d.png", "x[1].png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert names_in(tmp_path, list_images(str(tmp_path))) == ["a.png", "b.JPG", "sub/c.webp", "x[1].png"]
    assert names_in(tmp_path, list_images(str(tmp_path / "*.png"))) == ["a.png", "x[1].png"]
    assert names_in(tmp_path, list_images(str(tmp_path / "**/*.webp"))) == ["sub/c.webp"]
    everything = list_images(str(tmp_path / "*"))
    assert names_in(tmp_path, everything) == ["a.png", "b.JPG", "x[1].png"]
    assert everything.summary() == "1 file not taken: .txt 1"
    for single in ("x[1].png", "notes.txt"):
        assert list_images(str(tmp_path / single)) == Listing((str(tmp_path / single),))
    monkeypatch.chdir(tmp_path)
    assert list_images("**/*.webp").paths == ("sub/c.webp",)
    assert list_images("*.png").paths == ("a.png", "x[1].png")


def test_nothing_found_is_said_with_what_is_there(tmp_path):
    for nothing in (tmp_path, tmp_path / "*.png"):
        with pytest.raises(InputError, match="no image found; give a"):
            list_images(str(nothing))
    for absent in (tmp_path / "absent", f"file://{tmp_path}/absent.png", ""):
        with pytest.raises(InputError, match="there is no such file or folder"):
            list_images(str(absent))
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no image found \(1 file not taken: \.heic 1; .*a\.heic: no image by"):
        list_images(str(tmp_path))


def test_evenly_chosen_images_span_the_folder(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.png").touch()
    assert [Path(path).stem for path in evenly_chosen(str(tmp_path), 4)] == ["0", "3", "6", "9"]
    assert len(evenly_chosen(str(tmp_path), 99)) == 10
    with pytest.raises(InputError, match="use 1 or more"):
        evenly_chosen(str(tmp_path), 0)
