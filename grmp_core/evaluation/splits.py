"""Who is trained on and who is tested: splits by reference, nested shots, and validation inside the labelled budget.

Every draw orders its candidates by a hash of (seed, purpose, name) and takes the first ones. So it is the same on every
machine and NumPy version, and a larger draw contains the smaller one. Splits and folds name their candidates by
reference, whatever the order of rows; shots name theirs by row, so they belong to one order of rows.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from grmp_core.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """Row indices of the training and the test part of one labelled set, each sorted; no reference is in both."""

    train: np.ndarray
    """int64 (N_train,)"""
    test: np.ndarray
    """int64 (N_test,)"""
    seed: int
    """The seed that it was drawn with."""


def split(reference_ids: Iterable[str], seed: int, test_fraction: float = 0.2) -> Split:
    """Split rows by their reference image: `test_fraction` of the references (at least one) go to the test part.

    Args:
        reference_ids: one id a row, (N,); rows that share an id stay together. Images without a shared reference carry
            ids of their own.
        seed: the same seed gives the same parts, whatever the order of the rows.
        test_fraction: share of references, in (0, 1), rounded to the nearest count.

    Raises:
        InputError: fewer than two references, or `test_fraction` outside (0, 1).
    """
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction: {test_fraction} must lie strictly between 0 and 1")
    ids = [str(value) for value in reference_ids]
    ordered = _hash_order(set(ids), seed, "split")
    if len(ordered) < 2:
        raise InputError(f"split: {len(ids)} images of {len(ordered)} references; at least 2 references are needed")
    n_test = _share(len(ordered), test_fraction)
    in_test = _membership(ids, ordered[:n_test])
    return Split(np.flatnonzero(~in_test), np.flatnonzero(in_test), seed)


def draw_shots(split: Split, shots: int, seed: int) -> np.ndarray:
    """Rows of the training part to be labelled, sorted, (shots,) int64; of one seed, fewer shots are part of more.

    At random, as the published protocol does, and as someone must who does not know the labels yet.

    Args:
        split: the parts; only its training part is drawn from.
        shots: how many labelled images.
        seed: of the draw, independent of the split's own.

    Raises:
        InputError: shots below 1, or more than the training part holds.
    """
    n_train = len(split.train)
    if not 1 <= shots <= n_train:
        raise InputError(f"shots: {shots} asked for, the training part holds {n_train} images; choose 1..{n_train}")
    names = {f"{index}": int(index) for index in split.train}
    ordered = np.array([names[name] for name in _hash_order(names, seed, "shots")], dtype=np.int64)
    return np.sort(ordered[:shots])


def shots_from_ratio(split: Split, ratio: float) -> int:
    """Number of shots that is nearest to `ratio`, in (0, 1], of the training part.

    Raises:
        InputError: ratio outside (0, 1], or so small that it rounds to no image.
    """
    n_train = len(split.train)
    if not 0 < ratio <= 1:
        raise InputError(f"data ratio: {ratio} must lie in (0, 1]")
    shots = round(ratio * n_train)
    if shots < 1:
        raise InputError(f"data ratio: {ratio} of {n_train} training images is no image; use {1 / n_train:.3g} or more")
    return shots


def validation_folds(
    indices: Sequence[int] | np.ndarray,
    reference_ids: Sequence[str],
    seed: int,
    *,
    fraction: float | None = None,
    folds: int | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide the labelled rows into (fit, validation) pairs that share no reference; give `fraction` or `folds`.

    Args:
        indices: the labelled rows, such as `draw_shots` gives.
        reference_ids: one id for every row of the whole set.
        seed: the same seed gives the same folds.
        fraction: one pair, with this share of the references, in (0, 1), held out.
        folds: so many pairs; each labelled row is held out exactly once. Folds are of nearly equal size in rows.

    Raises:
        InputError: both or neither of `fraction` and `folds`, out of range, or fewer references than needed.
    """
    if (fraction is None) == (folds is None):
        raise InputError("validation: give either fraction or folds, not both and not neither")
    rows = np.sort(np.asarray(indices, dtype=np.int64))
    ids = [str(reference_ids[row]) for row in rows]
    ordered = _hash_order(set(ids), seed, "validation")
    needed = 2 if folds is None else folds
    if needed < 2 or (fraction is not None and not 0 < fraction < 1):
        raise InputError(f"validation: fraction {fraction} must lie in (0, 1), folds {folds} be at least 2")
    if len(ordered) < needed:
        raise InputError(
            f"validation: the {len(rows)} labelled images have {len(ordered)} references, {needed} are needed; "
            "label more images or turn validation down"
        )
    if fraction is not None:
        held_out = [ordered[: _share(len(ordered), fraction)]]
    else:
        held_out = _even_groups(ordered, ids, needed)
    masks = [_membership(ids, group) for group in held_out]
    return [(rows[~mask], rows[mask]) for mask in masks]


def _hash_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    def key(name: str) -> tuple[bytes, str]:
        return hashlib.blake2b(f"{purpose}\0{seed}\0{name}".encode(), digest_size=16).digest(), name

    return sorted(names, key=key)


def _share(count: int, fraction: float) -> int:
    return min(max(round(count * fraction), 1), count - 1)


def _membership(ids: Sequence[str], chosen: Iterable[str]) -> np.ndarray:
    drawn = set(chosen)
    return np.fromiter((value in drawn for value in ids), dtype=bool, count=len(ids))


def _even_groups(ordered: Sequence[str], ids: Sequence[str], n_groups: int) -> list[list[str]]:
    rows_of = dict.fromkeys(ordered, 0)
    for name in ids:
        rows_of[name] += 1
    groups: list[list[str]] = [[] for _ in range(n_groups)]
    filled = [0] * n_groups
    # Largest first (ties in hash order) into the emptiest group: no group stays empty, sizes differ by one reference.
    for name in sorted(ordered, key=lambda name: -rows_of[name]):
        emptiest = filled.index(min(filled))
        groups[emptiest].append(name)
        filled[emptiest] += rows_of[name]
    return groups
