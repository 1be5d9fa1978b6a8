"""LIVE In the Wild Image Quality Challenge Database, in the folder layout of its release."""

import os

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, build
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange

SCORE_RANGE = ScoreRange(mos_min=0.0, mos_max=100.0)
_TRAINING_NAMES = [f"t{number}" for number in range(1, 8)]


def load_livec(path: str, max_reject_fraction: float) -> LabelledSet:
    """Load `ChallengeDB_release` (or the folder above it): `Images/` and `Data/All{Images,MOS}_release.mat`.

    The first seven label rows are the images that raters were trained on, and are left out. Every photo is its own
    reference. An image that is there in another file format only (`1.webp` for `1.bmp`) is taken, and noted.

    Raises:
        InputError: label files missing or not as released, or what `labelled_set.build` refuses.
    """
    root = _find_root(path)
    names = [_text(cell) for cell in _read_mat(root, "AllImages_release").ravel()]
    scores = _read_mat(root, "AllMOS_release").ravel().astype(np.float64)
    if len(names) != len(scores):
        raise InputError(f"{root}/Data: {len(names)} image names but {len(scores)} scores; download both files again")
    if [_stem(name) for name in names[:7]] != _TRAINING_NAMES:
        raise InputError(f"{root}/Data: the first rows are {names[:7]}, the release has t1..t7 there")
    images = os.path.join(root, "Images")
    by_stem = _files_by_stem(images)
    rows, other_format = [], 0
    for number, (name, score) in enumerate(zip(names[7:], scores[7:], strict=True), start=8):
        image_path = os.path.join(images, name)
        if not os.path.isfile(image_path) and _stem(name) in by_stem:
            image_path = by_stem[_stem(name)]
            other_format += 1
        rows.append(LabelRow(f"AllImages_release.mat row {number}", image_path, float(score), f"livec/{_stem(name)}"))
    notes = [f"{other_format} images found under the same name in another file format"] if other_format else []
    return build("livec", root, rows, SCORE_RANGE, max_reject_fraction, notes=notes)


def _find_root(path: str) -> str:
    for root in (path, os.path.join(path, "ChallengeDB_release")):
        if os.path.isdir(os.path.join(root, "Data")):
            return os.path.abspath(root)
    raise InputError(f"{path}: no Data folder with labels; give the folder ChallengeDB_release of the LIVEC download")


def _read_mat(root: str, variable: str) -> np.ndarray:
    file = os.path.join(root, "Data", f"{variable}.mat")
    if not os.path.isfile(file):
        raise InputError(f"{file}: no such label file; LIVEC's release has it in Data/")
    try:
        content = loadmat(file, variable_names=[variable])
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise InputError(f"{file}: not a MATLAB 5 file: {' '.join(str(error).split())}") from error
    if variable not in content:
        raise InputError(f"{file}: holds no variable {variable!r}")
    return content[variable]


def _files_by_stem(folder: str) -> dict[str, str]:
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; LIVEC's release has its photos there")
    files = (entry.path for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    return {_stem(os.path.basename(file)): file for file in sorted(files)}


def _text(cell: object) -> str:
    return str(np.asarray(cell).item())


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
