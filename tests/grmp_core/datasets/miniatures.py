"""The published sets in miniature: the folders, names and tables of each as they are downloaded, with tiny images.

`make(name, root)` writes one below `root` and returns its folder.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from openpyxl import Workbook
from PIL import Image
from scipy.io import savemat

_COLOURS = itertools.count()


def draw(path: Path) -> None:
    """A tiny image that no other one equals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = next(_COLOURS)
    Image.new("RGB", (8, 6), (number % 256, number // 256 % 256, number // 65536)).save(path)


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_excel(path: Path, rows: Sequence[Sequence[object]], sheet: str = "Sheet1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(list(row))
    book.save(path)


def cells(*names: str) -> np.ndarray:
    """A MATLAB cell array of text, one column."""
    return np.array(names, dtype=object)[:, None]


LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
LIVE_REFERENCES = ("bikes.bmp", "buildings.bmp", "Caps.bmp")
LIVE_ORIGINALS = 203


def make_live(root: Path) -> Path:
    """982 rows, 203 of them undistorted originals; `orgs` is one row as `dmos` is."""
    folder = root / "databaserelease2"
    total = sum(LIVE_FOLDERS.values())
    originals = np.zeros(total)
    originals[np.linspace(0, total - 1, LIVE_ORIGINALS).astype(int)] = 1
    places = [(name, k) for name, count in LIVE_FOLDERS.items() for k in range(1, count + 1)]
    for (name, number), original in zip(places, originals, strict=True):
        if not original:
            draw(folder / name / f"img{number}.bmp")
    draw(folder / "refimgs/bikes.bmp")
    dmos = np.where(originals == 1, 0.0, np.linspace(1, 100, total))
    references = [LIVE_REFERENCES[i % 3] for i in range(total)]
    savemat(folder / "dmos.mat", {"dmos": dmos[None], "orgs": originals[None]})
    savemat(folder / "dmos_realigned.mat", {"dmos_new": (dmos - 2)[None], "orgs": originals[None]})
    savemat(folder / "refnames_all.mat", {"refnames_all": np.array(references, dtype=object)[None]})
    return folder


def make_csiq(root: Path) -> Path:
    """The official workbook: the table begins in the fourth column, below a title."""
    folder = root / "CSIQ"
    kinds = {"noise": ("awgn", "AWGN"), "blur": ("blur", "BLUR"), "jpeg": ("JPEG", "JPEG"),
             "jpeg 2000": ("jpeg2000", "jpeg2000"), "fnoise": ("fnoise", "fnoise"),
             "contrast": ("contrast", "contrast")}  # fmt: skip
    rows: list[Sequence[object]] = [
        ["CSIQ"],
        [],
        [],
        [None] * 3 + ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"],
    ]
    for index, (kind, (place, token)) in enumerate(kinds.items(), start=1):
        for image, level in ((1600, 1), ("log_seaside", 5)):
            draw(folder / "dst_imgs" / place / f"{image}.{token}.{level}.png")
            rows.append([None] * 3 + [image, index, kind, level, 0.05, index / 10 + level / 20])
    draw(folder / "src_imgs/1600.png")
    write_excel(folder / "csiq.DMOS.xlsx", rows, "all_by_image")
    return folder


def make_tid2013(root: Path) -> Path:
    """Names in the table and on disk differ in case; Windows line ends."""
    folder = root / "tid2013"
    for name in ("I01_01_1.bmp", "i01_24_5.bmp", "I25_08_3.BMP"):
        draw(folder / "distorted_images" / name)
    draw(folder / "reference_images/I01.BMP")
    (folder / "mos_with_names.txt").write_text("5.51429 I01_01_1.bmp\r\n0.24 I01_24_5.bmp\r\n4.5 i25_08_3.bmp\r\n")
    return folder


def make_kadid10k(root: Path) -> Path:
    folder = root / "kadid10k"
    rows: list[Sequence[object]] = [["dist_img", "ref_img", "dmos", "var"]]
    for reference, kind, level, mos in [(1, 1, 1, 4.6), (1, 1, 5, 1.2), (2, 25, 3, 4.3), (2, 10, 5, 1.0)]:
        name = f"I{reference:02}_{kind:02}_{level:02}.png"
        draw(folder / "images" / name)
        rows.append([name, f"I{reference:02}.png", mos, 0.5])
    write_csv(folder / "dmos.csv", rows)
    return folder


def make_livec(root: Path) -> Path:
    """7 training rows and 5 photos, one of which is there in another format."""
    folder = root / "ChallengeDB_release"
    names = [f"t{k}.bmp" for k in range(1, 8)] + ["10.bmp", "1000.JPG", "1001.JPG", "11.bmp", "1002.JPG"]
    for name in names:
        place = folder / "Images" / ("trainingImages" if name.startswith("t") else "")
        draw(place / (name if name != "11.bmp" else "11.png"))
    write_livec_labels(folder, names, np.linspace(5, 93, 12))
    return folder


def write_livec_labels(folder: Path, names: list[str], mos: np.ndarray) -> None:
    (folder / "Data").mkdir(exist_ok=True)
    savemat(folder / "Data/AllImages_release.mat", {"AllImages_release": cells(*names)})
    savemat(folder / "Data/AllMOS_release.mat", {"AllMOS_release": mos[None]})


def make_koniq10k(root: Path) -> Path:
    """Two of the three score files: the one with the official split is on 0..100."""
    folder = root / "koniq10k"
    header = ["image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD"]
    parts = {"826373.jpg": "training", "1755366.jpg": "validation", "191733.jpg": "test"}
    rows = [[name, 0, 0, 25, 73, 7, 105, mos, 0.5] for name, mos in zip(parts, (4.0, 2.5, 1.0), strict=True)]
    for name in parts:
        draw(folder / "1024x768" / name)
        draw(folder / "512x384" / name)
    write_csv(
        folder / "koniq10k_scores_and_distributions.csv", [[*header, "MOS_zscore"], *([*row, 70] for row in rows)]
    )
    with_sets = [[*row[:7], 20 * row[7], row[8], parts[row[0]]] for row in rows]
    write_csv(folder / "koniq10k_distributions_sets.csv", [[*header, "set"], *with_sets])
    return folder


def make_spaq(root: Path) -> Path:
    folder = root / "SPAQ"
    rows = [[f"0000{k}.jpg", 20.5 * k, 50, 50, 50, 50, 50] for k in (1, 2, 3)]
    for row in rows:
        draw(folder / "TestImage" / str(row[0]))
    header = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    write_excel(folder / "Annotations/MOS and Image attribute scores.xlsx", [header, *rows])
    return folder


def make_flive(root: Path) -> Path:
    folder = root / "FLIVE_Database"
    names = ["voc_emotic_ava/a.jpg", "EE371R/b.jpg", "blur_dataset/c.jpg", "voc_emotic_ava/d.jpg"]
    for name in names:
        draw(folder / "database" / name)
    write_csv(folder / "labels_image.csv", [["name", "mos"], *([name, 30 + 15 * k] for k, name in enumerate(names))])
    write_csv(folder / "labels640.csv", [["name_image", "mos_image"], [names[1], 45]])
    padded = [["name_image", "mos_image", "is_valid"], [names[2], 60, "True"], [names[3], 75, "False"]]
    write_csv(folder / "labels=640_padded.csv", padded)
    return folder


def make_pipal(root: Path) -> Path:
    folder = root / "PIPAL"
    for number, reference in enumerate(("A0001", "A0002")):
        lines = []
        for kind in (0, 1):
            name = f"{reference}_0{kind}_00.bmp"
            draw(folder / f"Distortion_{1 + 2 * kind}" / name)
            lines.append(f"{name},{1400 + 10 * kind + number}.25")
        label = folder / "Train_Label" / f"{reference}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines) + "\n")
        draw(folder / "Train_Ref" / f"{reference}.bmp")
    return folder


def make_agiqa3k(root: Path) -> Path:
    folder = root / "AGIQA-3K"
    header = ["name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align"]
    rows = [[f"{model}_normal_00{k}.jpg", f"statue {k}, gold", "gold", "", "baroque", k + 1.5, 0.4, 3, 0.2]
            for model in ("AttnGAN", "midjourney") for k in (0, 1)]  # fmt: skip
    for row in rows:
        draw(folder / "images" / str(row[0]))
    write_csv(folder / "data.csv", [header, *rows])
    return folder


def make_uhd_iqa(root: Path) -> Path:
    folder = root / "UHD-IQA-database"
    rows = [["1.jpg", 0.3, "training", ""], ["2.jpg", 0.55, "validation", "popular"], ["3.jpg", 0.8, "test", "random"]]
    for name, _, part, _ in rows:
        draw(folder / str(part) / str(name))
    write_csv(folder / "uhd-iqa-metadata.csv", [["image_name", "quality_mos", "set", "subset"], *rows])
    return folder


def make_biq2021(root: Path) -> Path:
    """The older tables: one scale, some scores below it; one name with its ending in another case."""
    folder = root / "BIQ2021"
    for name in ("ss01 (1).jpg", "ss02 (1014).JPG", "ss03 (7).jpg", "ss03 (8).jpg"):
        draw(folder / "Images" / name)
    rows = [["ss01 (1).jpg", 0.47], ["ss02 (1014).jpg", 0.28], ["ss03 (8).jpg", -0.01]]
    write_csv(folder / "Train.csv", [["Image Name", "MOS"], *rows])
    write_csv(folder / "Test.csv", [["Image Name", "MOS"], ["ss03 (7).jpg", 0.73]])
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "agiqa3k": make_agiqa3k,
    "biq2021": make_biq2021,
    "csiq": make_csiq,
    "flive": make_flive,
    "kadid10k": make_kadid10k,
    "koniq10k": make_koniq10k,
    "live": make_live,
    "live_realigned": make_live,
    "livec": make_livec,
    "pipal": make_pipal,
    "spaq": make_spaq,
    "tid2013": make_tid2013,
    "uhd_iqa": make_uhd_iqa,
}
