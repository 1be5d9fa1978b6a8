"""The two big sets of synthetically distorted photos, in the folder layout of their releases."""

import os
import re

from grmp_core.datasets.label_table import read_csv
from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, build
from grmp_core.distortions import REGISTRY
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange

KADID10K_RANGE = ScoreRange(mos_min=1.0, mos_max=5.0)
TID2013_RANGE = ScoreRange(mos_min=0.0, mos_max=9.0)

_BY_KADID_ID = {d.kadid_id: name for name, d in REGISTRY.items()}
_BY_TID_ID = {d.tid_id: name for name, d in REGISTRY.items()}
KADID10K_TYPES = tuple(_BY_KADID_ID[i] for i in range(1, 26))
"""Names of KADID-10k's distortion types 1..25, as the distortion registry spells them."""
TID2013_TYPES = tuple(_BY_TID_ID[i] for i in range(1, 25))
"""Names of TID2013's distortion types 1..24, likewise."""

_NAME = re.compile(r"^(?P<reference>i\d{2})_(?P<type>\d{2})_(?P<level>\d{1,2})\.\w+$", re.IGNORECASE)


def load_kadid10k(path: str, max_reject_fraction: float) -> LabelledSet:
    """Load KADID-10k: `images/` and `dmos.csv` (columns dist_img, ref_img, dmos). Its "dmos" is 1..5, higher better.

    Raises:
        InputError: label file missing or not as released, or what `labelled_set.build` refuses.
    """
    root = _find_root(path, "dmos.csv", "KADID-10k", "kadid10k")
    labels = read_csv(os.path.join(root, "dmos.csv"), ["dist_img", "dmos"])
    images = os.path.join(root, "images")
    rows = [_to_row(where, name, score, images, {}, "kadid10k", KADID10K_TYPES) for where, (name, score) in labels]
    return build("kadid10k", root, rows, KADID10K_RANGE, max_reject_fraction)


def load_tid2013(path: str, max_reject_fraction: float) -> LabelledSet:
    """Load TID2013: `distorted_images/` and `mos_with_names.txt` (lines `mos name`). Scores are 0..9, higher better.

    File names are matched without regard to case, since the release mixes `I01_01_1.bmp` and `i01_01_1.BMP`.

    Raises:
        InputError: label file missing or not as released, or what `labelled_set.build` refuses.
    """
    root = _find_root(path, "mos_with_names.txt", "TID2013", "tid2013")
    images = os.path.join(root, "distorted_images")
    if not os.path.isdir(images):
        raise InputError(f"{images}: no such folder; TID2013's release has its images there")
    by_lower = {name.lower(): name for name in os.listdir(images)}
    rows = [
        _to_row(where, name, score, images, by_lower, "tid2013", TID2013_TYPES)
        for where, score, name in _read_pairs(os.path.join(root, "mos_with_names.txt"))
    ]
    return build("tid2013", root, rows, TID2013_RANGE, max_reject_fraction)


def _find_root(path: str, label_file: str, title: str, folder: str) -> str:
    for root in (path, os.path.join(path, folder)):
        if os.path.isfile(os.path.join(root, label_file)):
            return os.path.abspath(root)
    raise InputError(f"{path}: no {label_file}; give the folder of the {title} download that holds it")


def _read_pairs(label_file: str) -> list[tuple[str, str, str]]:
    name = os.path.basename(label_file)
    pairs = []
    with open(label_file, encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            words = line.split()
            if len(words) not in (0, 2):
                raise InputError(f"{label_file}: line {number} is {line.strip()!r}, expected a score and a file name")
            if words:
                pairs.append((f"{name} line {number}", words[0], words[1]))
    return pairs


def _to_row(
    where: str,
    name: str | None,
    score: str | None,
    images: str,
    by_lower: dict[str, str],
    dataset: str,
    types: tuple[str, ...],
) -> LabelRow:
    match = _NAME.match(name or "")
    number = int(match["type"]) if match else 0
    if name is None or match is None or not 1 <= number <= len(types) or not 1 <= int(match["level"]) <= 5:
        raise InputError(
            f"{where}: {name!r} is not a file name of {dataset}: reference, type 1..{len(types)}, level 1..5"
        )
    return LabelRow(
        where=where,
        image_path=os.path.join(images, by_lower.get(name.lower(), name)),
        score=score,
        reference_id=f"{dataset}/{match['reference'].upper()}",
        distortion=types[number - 1],
        level=int(match["level"]),
    )
