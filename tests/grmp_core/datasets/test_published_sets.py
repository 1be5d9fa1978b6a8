"""Every published set in miniature: read as downloaded, and refused in one line where its layout is another."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from grmp_core.datasets import DATASETS, LabelledSet, distortions_of, load, originals_of
from grmp_core.datasets.description import published, read_description
from grmp_core.distortions import REGISTRY
from grmp_core.errors import InputError
from grmp_core.evaluation.splits import split
from tests.grmp_core.datasets.miniatures import (
    LIVE_FOLDERS,
    MAKERS,
    make_biq2021,
    make_csiq,
    make_koniq10k,
    make_live,
    make_livec,
    write_csv,
    write_livec_labels,
)

SCORED = [name for name in DATASETS if name not in ("table", "kadis700k")]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> folder of each miniature; LIVE's is shared by its two kinds of scores."""
    root = tmp_path_factory.mktemp("archives")
    made = {name: make(root) for name, make in MAKERS.items() if name != "live_realigned"}
    return {**made, "live_realigned": made["live"]}


def column(labelled: LabelledSet, name: str) -> list:
    return labelled.table[name].to_pylist()


def test_every_set_has_a_miniature() -> None:
    assert sorted(MAKERS) == sorted(SCORED)


@pytest.mark.parametrize("name", SCORED)
def test_folder_and_the_folder_above_it(name: str, archives: dict[str, Path]) -> None:
    labelled = load(name, str(archives[name]))
    assert not labelled.rejected
    assert all(Path(path).is_file() for path in labelled.image_paths)
    assert len(set(labelled.image_paths)) == len(labelled) > 1
    assert labelled.quality.min() >= 0
    assert labelled.quality.max() <= 1
    assert set(column(labelled, "dataset")) == {name}
    assert load(name, str(archives[name].parent)).fingerprint() == labelled.fingerprint()


@pytest.mark.parametrize("name", SCORED)
def test_an_empty_folder_is_told_what_is_expected(name: str, tmp_path: Path) -> None:
    (tmp_path / "IMG_1.jpg").touch()
    title = re.escape(read_description(published()[name]).title)
    with pytest.raises(InputError, match=rf"not {title} as published: expected .+; found IMG_1\.jpg$") as refused:
        load(name, str(tmp_path))
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="found no such folder"):
        load(name, str(tmp_path / "absent"))


@pytest.mark.parametrize("name", SCORED)
def test_labels_without_their_images_are_told_what_is_expected(
    name: str, archives: dict[str, Path], tmp_path: Path
) -> None:
    """The tables alone, and a folder that is not of the set."""
    shutil.copytree(
        archives[name], tmp_path / "copy", ignore=shutil.ignore_patterns("*.bmp", "*.jp*g", "*.JPG", "*.BMP", "*.png")
    )
    for folder in sorted((p for p in (tmp_path / "copy").rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    (tmp_path / "copy/elsewhere").mkdir()
    with pytest.raises(InputError, match=r"as published: expected .+; found .*elsewhere/") as refused:
        load(name, str(tmp_path / "copy"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", SCORED)
def test_distortions_are_named_as_the_registry_has_them(name: str, archives: dict[str, Path]) -> None:
    own = {"fast_fading", "pink_noise"}  # types of LIVE and CSIQ that this package does not make
    assert set(column(load(name, str(archives[name])), "distortion")) <= {*REGISTRY, *own, None}


@pytest.mark.parametrize(("name", "number"), [("kadid10k", "kadid_id"), ("tid2013", "tid_id")])
def test_distortion_numbers_are_the_registrys(name: str, number: str) -> None:
    by_number = {getattr(distortion, number): key for key, distortion in REGISTRY.items()}
    names = distortions_of(name)
    assert names == tuple(by_number[i] for i in range(1, len(names) + 1))


def test_live_drops_its_originals_and_keeps_references_together(archives: dict[str, Path]) -> None:
    labelled = load("live", str(archives["live"]))
    assert len(labelled) == 779
    assert "203 label rows left out: undistorted originals" in labelled.notes
    assert set(labelled.reference_ids) == {"live/BIKES.BMP", "live/BUILDINGS.BMP", "live/CAPS.BMP"}
    best = int(np.argmin(labelled.mos))
    assert labelled.quality[best] == 1.0, "a small difference score is a good image"
    assert labelled.image_paths[0].endswith("jp2k/img2.bmp")
    assert labelled.image_paths[-1].endswith("fastfading/img173.bmp")
    counts = {kind: column(labelled, "distortion").count(kind) for kind in ("jpeg2000", "jpeg", "fast_fading")}
    assert sum(LIVE_FOLDERS.values()) == 982
    assert 170 < counts["jpeg2000"] < 190
    np.testing.assert_allclose(load("live_realigned", str(archives["live"])).mos, labelled.mos - 2)


def test_live_with_labels_of_another_release(tmp_path: Path) -> None:
    folder = make_live(tmp_path)
    savemat(folder / "refnames_all.mat", {"refnames_all": np.array(["a.bmp"] * 5, dtype=object)[None]})
    with pytest.raises(InputError, match=r"do not fit together: 982 of dmos\.mat:dmos, .*5 of refnames_all\.mat"):
        load("live", str(folder))
    savemat(folder / "dmos.mat", {"dmos": np.ones((1, 5)), "orgs": np.zeros((1, 5))})
    with pytest.raises(InputError, match="5 label rows, expected 982: jp2k 227"):
        load("live", str(folder))


def test_csiq_by_its_workbook_and_by_the_community_list(tmp_path: Path) -> None:
    folder = make_csiq(tmp_path)
    from_book = load("csiq", str(folder))
    assert len(from_book) == 12
    assert from_book.reference_ids[:2] == ["csiq/1600", "csiq/LOG_SEASIDE"]
    assert column(from_book, "level")[:2] == [1, 5]
    assert from_book.quality[0] == pytest.approx(1 - 0.15)
    (folder / "csiq.DMOS.xlsx").unlink()
    lines = [f"{Path(path).name} {mos}" for path, mos in zip(from_book.image_paths, from_book.mos, strict=True)]
    (folder / "csiq_label.txt").write_text("\n".join(lines))
    from_list = load("csiq", str(folder))
    for name in ("image_path", "mos", "reference_id", "level", "distortion"):
        assert column(from_list, name) == column(from_book, name)


def test_tid2013_folds_the_case_of_references(archives: dict[str, Path]) -> None:
    labelled = load("tid2013", str(archives["tid2013"]))
    assert column(labelled, "distortion") == ["white_noise", "sparse_sampling", "gaussian_blur"]
    assert labelled.reference_ids == ["tid2013/I01", "tid2013/I01", "tid2013/I25"]
    assert [Path(path).name for path in labelled.image_paths] == ["I01_01_1.bmp", "i01_24_5.bmp", "I25_08_3.BMP"]
    assert labelled.quality[0] == pytest.approx(0.612699, abs=1e-6)


def test_tid2013_with_broken_rows(tmp_path: Path) -> None:
    folder = MAKERS["tid2013"](tmp_path)
    with (folder / "mos_with_names.txt").open("a") as stream:
        stream.write("3.5 I02_25_1.bmp\n")
    with pytest.raises(InputError, match=r"line 4: 'I02_25_1\.bmp' is not a file name of TID2013"):
        load("tid2013", str(folder))
    assert len(load("tid2013", str(folder), max_reject_fraction=0.25)) == 3
    with (folder / "mos_with_names.txt").open("a") as stream:
        stream.write("I02_01_1.bmp\n")
    with pytest.raises(InputError, match=r"line 5 has 1 cells \(I02_01_1\.bmp\), expected 2: mos, file"):
        load("tid2013", str(folder))


def test_kadid10k_is_higher_better_and_split_by_reference(archives: dict[str, Path]) -> None:
    labelled = load("kadid10k", str(archives["kadid10k"]))
    assert column(labelled, "distortion") == ["gaussian_blur", "gaussian_blur", "contrast", "jpeg"]
    assert column(labelled, "level") == [1, 5, 3, 5]
    assert labelled.reference_ids == ["kadid10k/I01", "kadid10k/I01", "kadid10k/I02", "kadid10k/I02"]
    assert column(labelled, "quality") == pytest.approx([0.9, 0.05, 0.825, 0.0])
    parts = split(labelled.reference_ids, 0, 0.5)
    assert len(parts.train) == len(parts.test) == 2
    assert "4 label rows; the whole of KADID-10k has 10125" in labelled.notes


def test_kadid10k_with_other_columns(tmp_path: Path) -> None:
    folder = MAKERS["kadid10k"](tmp_path)
    (folder / "dmos.csv").write_text("name,score\nI01_01_01.png,4\n")
    with pytest.raises(InputError, match=r"no column 'dist_img', 'dmos'; the columns are: name, score"):
        load("kadid10k", str(folder))


def test_livec_leaves_out_the_training_images(archives: dict[str, Path]) -> None:
    labelled = load("livec", str(archives["livec"]))
    np.testing.assert_allclose(labelled.mos, np.linspace(5, 93, 12)[7:])
    np.testing.assert_allclose(labelled.quality, labelled.mos / 100)
    assert [Path(path).name for path in labelled.image_paths][:4] == ["10.bmp", "1000.JPG", "1001.JPG", "11.png"]
    assert labelled.reference_ids[0] == "livec/10"
    assert "1 images found under the same name in another file format" in labelled.notes
    assert "7 label rows left out: images that raters were trained on" in labelled.notes


def test_livec_with_missing_photos(tmp_path: Path) -> None:
    folder = make_livec(tmp_path)
    (folder / "Images/1001.JPG").unlink()
    with pytest.raises(InputError, match=r"AllImages_release\.mat row 10: image not found"):
        load("livec", str(folder))
    labelled = load("livec", str(folder), max_reject_fraction=0.2)
    assert len(labelled) == 4
    assert len(labelled.rejected) == 1


def test_livec_with_other_label_files(tmp_path: Path) -> None:
    folder = make_livec(tmp_path)
    names = [f"t{k}.bmp" for k in range(1, 8)] + ["10.bmp", "1000.JPG"]
    write_livec_labels(folder, names, np.arange(8.0))
    with pytest.raises(InputError, match=r"do not fit together: 9 of .*, 8 of "):
        load("livec", str(folder))
    write_livec_labels(folder, names[1:], np.arange(8.0))
    with pytest.raises(InputError, match=r"row 1: expected t1, .*t7 first .*, found t2, t3"):
        load("livec", str(folder))
    (folder / "Data/AllMOS_release.mat").write_bytes(b"\x80\x04 a pickle, say")
    with pytest.raises(InputError, match="not a MATLAB 5 file"):
        load("livec", str(folder))
    savemat(folder / "Data/AllMOS_release.mat", {"MOS": np.arange(8.0)})
    with pytest.raises(InputError, match="holds no variable 'AllMOS_release'"):
        load("livec", str(folder))


def test_koniq10k_takes_the_table_with_the_split_where_it_is_there(tmp_path: Path) -> None:
    folder = make_koniq10k(tmp_path)
    labelled = load("koniq10k", str(folder))
    assert labelled.parts == ["train", "validation", "test"]
    assert labelled.mos.tolist() == [80, 50, 20]
    assert (labelled.score_range.mos_min, labelled.score_range.mos_max) == (0, 100)
    assert all("/1024x768/" in path for path in labelled.image_paths)
    (folder / "koniq10k_distributions_sets.csv").unlink()
    shutil.rmtree(folder / "1024x768")
    labelled = load("koniq10k", str(folder))
    assert labelled.parts == [None] * 3
    assert (labelled.score_range.mos_min, labelled.score_range.mos_max) == (1, 5)
    assert all("/512x384/" in path for path in labelled.image_paths)


def test_flive_official_split_by_its_lists(tmp_path: Path) -> None:
    folder = MAKERS["flive"](tmp_path)
    assert load("flive", str(folder)).parts == ["train", "test", "validation", "train"]
    (folder / "labels640.csv").unlink()
    labelled = load("flive", str(folder))
    assert labelled.parts == [None] * 4
    assert any("without its official split: labels640.csv" in note for note in labelled.notes)


def test_pipal_gathers_its_folders_and_lists(archives: dict[str, Path]) -> None:
    labelled = load("pipal", str(archives["pipal"]))
    assert labelled.mos.tolist() == [1400.25, 1410.25, 1401.25, 1411.25]
    assert [Path(path).parent.name for path in labelled.image_paths] == ["Distortion_1", "Distortion_3"] * 2
    assert labelled.reference_ids == ["pipal/A0001", "pipal/A0001", "pipal/A0002", "pipal/A0002"]


def test_brackets_in_the_name_of_a_folder_are_no_pattern(tmp_path: Path) -> None:
    folder = MAKERS["pipal"](tmp_path / "downloads [new]")
    assert len(load("pipal", str(folder))) == 4


def test_agiqa3k_keeps_the_images_of_a_prompt_together(archives: dict[str, Path]) -> None:
    labelled = load("agiqa3k", str(archives["agiqa3k"]))
    assert labelled.reference_ids == ["agiqa3k/statue 0, gold", "agiqa3k/statue 1, gold"] * 2


def test_uhd_iqa_finds_images_in_the_folder_of_their_part(archives: dict[str, Path]) -> None:
    labelled = load("uhd_iqa", str(archives["uhd_iqa"]))
    assert labelled.parts == ["train", "validation", "test"]
    assert [Path(path).parent.name for path in labelled.image_paths] == ["training", "validation", "test"]


def test_biq2021_counts_scores_below_its_scale_and_warns_of_the_newer_tables(tmp_path: Path) -> None:
    folder = make_biq2021(tmp_path)
    labelled = load("biq2021", str(folder))
    assert labelled.parts == ["train", "train", "test"]
    assert "1 label rows left out: a score outside 0..1" in labelled.notes
    assert labelled.image_paths[1].endswith("ss02 (1014).JPG")
    for part in ("Train", "Test"):
        (folder / f"{part}.csv").rename(folder / f"{part} (Images and MOS).csv")
    again = load("biq2021", str(folder))
    assert again.table.equals(labelled.table)
    assert "stretched" in again.notes[0]


def test_kadis700k_gives_originals_and_no_scores(tmp_path: Path) -> None:
    write_csv(tmp_path / "kadis700k/kadis700k_ref_imgs.csv", [["ref_img"], ["1.png"]])
    (tmp_path / "kadis700k/ref_imgs").mkdir()
    assert originals_of("kadis700k", str(tmp_path)) == str(tmp_path / "kadis700k/ref_imgs")
    (tmp_path / "kadis700k/ref_imgs").rmdir()
    with pytest.raises(InputError, match=r"as published: expected a folder ref_imgs; found kadis700k_ref"):
        originals_of("kadis700k", str(tmp_path / "kadis700k"))
    with pytest.raises(InputError, match=r"has no scores; .*synthesize\.source=kadis700k"):
        load("kadis700k", str(tmp_path))
    with pytest.raises(InputError, match=r"LIVEC.* brings no originals"):
        originals_of("livec", str(tmp_path))
