"""Teach the detector of damaged places by photos with damage planted in one part.

    python -m grmp_core.explain.place_fit MATERIAL [--photos 2400] [--calibrate 150] [--workers 2]

MATERIAL is a folder of `grmp train_backbone prepare`. Photos are rated ones of its training part. Of each, the backbone
sees the crops as they are and with damage in a rectangle, several times over; a third of the photos also with damage
all over. Probabilities are calibrated on photos of the part that explanations are calibrated by (`fit.unseen_photos`).

Shapes: V versions of photos, B of a batch, C crops, S statistics of a crop, F with its centre.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.explain.fit import unseen_photos
from grmp_core.explain.place_damage import CropLooks, PlaceDetector, PlaceNetwork, detector_file, look_at_crops
from grmp_core.explain.quality_map import crop_corners
from grmp_core.explain.settings import MapConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.nano.material import RATED, Material, read_material
from grmp_core.nano.sentences import TYPES
from grmp_core.seeds import generator_of, seed_of

LOWEST_SCORE = 0.5
"""Human score in [0, 1] from which a photo is taught by: what is planted should be its worst damage."""
RECTANGLES = 3
"""Versions of a photo with damage in a rectangle."""
WHOLE_EVERY = 3
"""Every so many photos have a version with damage all over."""
LEVEL_RANGE = (2.5, 5.0)
WEIGHTS = {
    "darken": 5.0,
    "brighten": 3.0,
    "mean_shift": 2.0,
    "colour_shift": 2.0,
    "gaussian_blur": 1.5,
    "saturation_hsv": 1.5,
    "saturation_lab": 1.5,
}
"""How often a type is planted, 1 for all others: more of what is hard to tell from a photo's own light and colour."""
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 18, 128, 1e-3, 0.05
NEAR_PX = 16
"""A pixel this close to one that damage has changed counts as damaged."""
OWN_LOSS = 0.5
"""Weight of the loss of each branch alone beside that of their sum, so that neither idles where the other one knows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Versions:
    """The crops of versions of photos, as `place_damage` sees them."""

    seen_VCF: np.ndarray
    """Statistics and centres, float16."""
    damaged_VC: np.ndarray
    """Share of each crop that is damaged, in [0, 1]."""
    num_of_tokens: int
    """Statistics that are of tokens."""


def rectangle(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random quarter or, as often, of a part with sides of 35 to 65 % of the photo's."""
    height, width = shape[:2]
    if rng.random() < 0.5:
        rows, columns = height // 2, width // 2
        top, left = (int(i) * side for i, side in zip(rng.integers(2, size=2), (rows, columns), strict=True))
    else:
        rows, columns = (int(side * rng.uniform(0.35, 0.65)) for side in (height, width))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    return slice(top, top + rows), slice(left, left + columns)


def damaged_shares(
    photo_HW3: np.ndarray,
    version_HW3: np.ndarray,
    part: tuple[slice, slice],
    corners: Sequence[tuple[int, int]],
    size_px: int,
) -> np.ndarray:
    """(C,) share of each crop that is damaged: pixels of the part within NEAR_PX of one that differs from the photo.

    Some types change a few blocks of a part only, and black stays black when it is darkened.
    """
    changed_HW = np.zeros(photo_HW3.shape[:2], np.uint8)
    changed_HW[part] = (photo_HW3[part] != version_HW3[part]).any(axis=2)
    near_HW = np.zeros_like(changed_HW)
    near_HW[part] = cv2.dilate(changed_HW, np.ones((2 * NEAR_PX + 1, 2 * NEAR_PX + 1), np.uint8))[part]
    return np.array([near_HW[top : top + size_px, left : left + size_px].mean() for top, left in corners])


def planted(
    photo_HW3: np.ndarray, number: int, *, also_whole: bool
) -> Iterator[tuple[np.ndarray, tuple[slice, slice]]]:
    """Damaged versions of one photo, with the part that is damaged. The damage is computed on the whole photo."""
    whole = slice(0, photo_HW3.shape[0]), slice(0, photo_HW3.shape[1])
    probabilities = np.array([WEIGHTS.get(name, 1.0) for name in TYPES])
    for version in range(RECTANGLES + also_whole):
        rng = generator_of("place", number, version)
        name = str(rng.choice(TYPES, p=probabilities / probabilities.sum()))
        # the middle level of a mean shift is no damage
        level = float(rng.choice([1, 1.5, 4.5, 5]) if name == "mean_shift" else rng.uniform(*LEVEL_RANGE))
        part = whole if version == RECTANGLES else rectangle(photo_HW3.shape, rng)
        damaged = photo_HW3.copy()
        damaged[part] = get(name)(photo_HW3, level, rng)[part]
        yield damaged, part


class Looker:
    """A worker process with a backbone and the photos."""

    def __init__(self, material: Path) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.material, self.backbone = read_material(material), load_backbone(BackboneConfig())

    def versions(self, number: int, *, also_whole: bool) -> Versions:
        """A photo as it is, and its damaged versions; crops without damage are looked at once."""
        photo, size_px = np.array(self.material.store.pixels(number)), self.backbone.image_size_px
        corners = crop_corners(photo.shape[:2], size_px, MapConfig())
        clean = self._look(photo, corners)
        seen, damaged = [clean.statistics_CS], [np.zeros(len(corners))]
        for version_HW3, part in planted(photo, number, also_whole=also_whole):
            share_C = damaged_shares(photo, version_HW3, part, corners, size_px)
            touched = np.flatnonzero(share_C)
            version_CS = clean.statistics_CS.copy()
            version_CS[touched] = self._look(version_HW3, [corners[i] for i in touched]).statistics_CS
            seen.append(version_CS)
            damaged.append(share_C)
        centres_C2 = (np.array(corners) + size_px / 2) / photo.shape[:2]
        seen_VCF = np.stack([np.column_stack([version_CS, centres_C2]) for version_CS in seen]).astype(np.float16)
        return Versions(seen_VCF=seen_VCF, damaged_VC=np.stack(damaged), num_of_tokens=clean.num_of_tokens)

    def _look(self, photo_HW3: np.ndarray, corners: list[tuple[int, int]]) -> CropLooks:
        size_px = self.backbone.image_size_px
        crops = np.stack([photo_HW3[top : top + size_px, left : left + size_px] for top, left in corners])
        return look_at_crops(self.backbone, [crops])


def look_at_photos(material: Path, numbers: Sequence[int], workers: int) -> Versions:
    """Versions of the photos with these numbers, in their order. InputError unless all are of one size."""
    rows = read_material(material).store.rows
    if len({(rows[n].height_px, rows[n].width_px) for n in numbers}) != 1:
        raise InputError("photos to teach the places of damage by are of several sizes; give photos of one size")
    with ProcessPoolExecutor(workers, get_context("spawn"), _open_looker, (material,)) as pool:
        found = list[Versions]()
        for done, versions in enumerate(pool.map(_look_at, numbers, range(len(numbers)), chunksize=8), start=1):
            found.append(versions)
            if done % 100 == 0:
                print(f"{done} of {len(numbers)} photos", flush=True)
    return Versions(
        seen_VCF=np.concatenate([versions.seen_VCF for versions in found]),
        damaged_VC=np.concatenate([versions.damaged_VC for versions in found]),
        num_of_tokens=found[0].num_of_tokens,
    )


_looker: Looker | None = None


def _open_looker(material: Path) -> None:
    global _looker
    _looker = Looker(material)


def _look_at(number: int, place: int) -> Versions:
    if _looker is None:
        raise RuntimeError("a worker looks at photos before it was opened")
    return _looker.versions(number, also_whole=place % WHOLE_EVERY == 0)


def fit_network(versions: Versions, epochs: int = EPOCHS, batch: int = BATCH, seed: int = 0) -> PlaceNetwork:
    """Cross-entropy of every crop, and of which crops of a photo are damaged the most. One thread, one seed.

    Photos differ in how many crops they have: in half of the steps, crops are left out at random.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    seen_VCF, damaged_VC = torch.from_numpy(versions.seen_VCF), torch.from_numpy(versions.damaged_VC).float()
    flat = seen_VCF[::7].flatten(0, 1).float()
    network = PlaceNetwork(flat.mean(dim=0), 1 / (flat.std(dim=0) + 1e-4), versions.num_of_tokens)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    per_epoch = max(1, len(seen_VCF) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * per_epoch)
    crops = seen_VCF.shape[1]
    for epoch in range(epochs):
        for rows in np.array_split(rng.permutation(len(seen_VCF)), per_epoch):
            count = crops if rng.random() < 0.5 else int(rng.integers(1, crops + 1))
            kept = np.sort(rng.permutation(crops)[:count])
            parts = network.parts(seen_VCF[rows][:, kept])
            target_BC = damaged_VC[rows][:, kept]
            loss = _loss(torch.stack(parts).sum(dim=0), target_BC)
            loss = loss + OWN_LOSS * sum(_loss(part, target_BC) for part in parts)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", flush=True)
    return network.eval()


def _loss(logits_BC: Tensor, damaged_BC: Tensor) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(logits_BC, damaged_BC)
    target_BC = damaged_BC.square()
    has_B = target_BC.sum(dim=1) > 0
    if not has_B.any():
        return loss
    target_BC = target_BC[has_B] / target_BC[has_B].sum(dim=1, keepdim=True)
    return loss - (target_BC * logits_BC[has_B].log_softmax(dim=1)).sum(dim=1).mean()


def fit_calibration(logits_VC: np.ndarray, damaged_VC: np.ndarray) -> tuple[float, float]:
    """-> the temperature and the bias of `PlaceDetector` with the least cross-entropy.

    Undamaged versions of photos weigh as much as all others together.
    """
    is_damaged_V = damaged_VC.any(axis=1)
    weight_V = np.where(is_damaged_V, 0.5 / max(1, is_damaged_V.sum()), 0.5 / max(1, (~is_damaged_V).sum()))

    def loss(values: np.ndarray) -> float:
        odds_VC = logits_VC * np.exp(-values[0]) + values[1]
        entropy_VC = np.logaddexp(0, odds_VC) - damaged_VC * odds_VC
        return float(weight_V @ entropy_VC.mean(axis=1))

    found = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(found[0])), float(found[1])


@torch.inference_mode()
def calibrated(network: PlaceNetwork, unseen: Versions, weights_sha256: str) -> PlaceDetector:
    """The detector as it will be read again, calibrated on photos that the network has not seen."""
    raw = PlaceDetector(weights_sha256=weights_sha256, network=network, temperature=1.0, bias=0.0)
    with tempfile.TemporaryDirectory() as folder:
        raw.write(Path(folder, "raw"))
        raw = PlaceDetector.read(Path(folder, "raw"))
    logits_VC = raw.network(torch.from_numpy(unseen.seen_VCF)).double().numpy()
    temperature, bias = fit_calibration(logits_VC, unseen.damaged_VC)
    return replace(raw, temperature=round(temperature, 4), bias=round(bias, 4))


def teaching_photos(material: Material, count: int) -> list[int]:
    """Numbers of `count` rated photos of training, of the size that most have; fewer where there are no more.

    InputError where none is rated LOWEST_SCORE or higher.
    """
    rows = material.store.rows
    rated = [n for n in material.training.tolist() if rows[n].source == RATED and (rows[n].score or 0) >= LOWEST_SCORE]
    if not rated:
        raise InputError(f"no photo of the material's training part is rated {LOWEST_SCORE} or higher; prepare it anew")
    [(size, _)] = Counter((rows[n].height_px, rows[n].width_px) for n in rated).most_common(1)
    same = [n for n in rated if (rows[n].height_px, rows[n].width_px) == size]
    return sorted(same, key=lambda n: seed_of("place", rows[n].sha256))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grmp_core.explain.place_fit", description=__doc__)
    parser.add_argument("material", type=Path, metavar="MATERIAL")
    parser.add_argument("--photos", type=int, default=2400, help="to teach by (default: %(default)s)")
    parser.add_argument("--calibrate", type=int, default=150, help="to calibrate on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that look (default: %(default)s)")
    options = parser.parse_args()
    material = read_material(options.material)
    backbone = load_backbone(BackboneConfig())
    taught = look_at_photos(options.material, teaching_photos(material, options.photos), options.workers)
    unseen = look_at_photos(options.material, unseen_photos(material, "choice", options.calibrate), options.workers)
    torch.set_num_threads(1)
    calibrated(fit_network(taught), unseen, backbone.weights_sha256).write(detector_file(EMBEDDED))
    print(f"{len(taught.seen_VCF)} versions of photos taught; {detector_file(EMBEDDED)}")


if __name__ == "__main__":
    main()
