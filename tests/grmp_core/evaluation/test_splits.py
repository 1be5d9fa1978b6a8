"""Splits, shots and folds: properties that must hold for any set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grmp_core.errors import InputError
from grmp_core.evaluation.splits import Split, draw_shots, shots_from_ratio, split, validation_folds

SEEDS = st.integers(0, 2**31)
IDS = st.lists(st.sampled_from([f"r{k}" for k in range(12)]), min_size=2, max_size=80).filter(lambda x: len(set(x)) > 1)
FRACTIONS = st.floats(0.05, 0.95)


def named(ids: list[str], rows: np.ndarray) -> set[str]:
    return {ids[row] for row in rows}


@settings(max_examples=80, deadline=None)
@given(IDS, SEEDS, FRACTIONS)
def test_parts_cover_all_rows_and_share_no_reference(ids: list[str], seed: int, fraction: float) -> None:
    parts = split(ids, seed, fraction)
    assert sorted([*parts.train, *parts.test]) == list(range(len(ids)))
    assert not named(ids, parts.train) & named(ids, parts.test)
    n_refs = len(set(ids))
    assert len(named(ids, parts.test)) == min(max(round(n_refs * fraction), 1), n_refs - 1)


@settings(max_examples=50, deadline=None)
@given(IDS, SEEDS, st.randoms(use_true_random=False))
def test_split_does_not_depend_on_row_order(ids: list[str], seed: int, random) -> None:
    shuffled = random.sample(ids, len(ids))
    assert named(ids, split(ids, seed).test) == named(shuffled, split(shuffled, seed).test)


@settings(max_examples=30, deadline=None)
@given(IDS, SEEDS)
def test_same_seed_same_split(ids: list[str], seed: int) -> None:
    first, second = split(ids, seed), split(iter(ids), seed)
    np.testing.assert_array_equal(first.train, second.train)
    np.testing.assert_array_equal(first.test, second.test)
    assert first.seed == seed


def test_seeds_differ_and_every_reference_is_tested_about_equally_often() -> None:
    ids = [str(k) for k in range(50)]
    counts = np.zeros(50)
    for seed in range(400):
        counts[split(ids, seed).test] += 1
    # Binomial(400, 0.2): mean 80, standard deviation 8.
    assert counts.sum() == 400 * 10
    assert counts.min() > 80 - 5 * 8
    assert counts.max() < 80 + 5 * 8


def test_the_draw_is_the_same_on_every_machine() -> None:
    ids = [f"r{k}" for k in range(10)]
    assert split(ids, 0).test.tolist() == [0, 8]
    assert draw_shots(split(ids, 0), 3, 0).tolist() == [1, 3, 7]


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 150), SEEDS, st.data())
def test_fewer_shots_are_part_of_more(n: int, seed: int, data: st.DataObject) -> None:
    parts = split([str(k) for k in range(n)], seed)
    more = data.draw(st.integers(1, len(parts.train)))
    fewer = data.draw(st.integers(1, more))
    large, small = draw_shots(parts, more, seed), draw_shots(parts, fewer, seed)
    assert len(set(large.tolist())) == more
    assert len(small) == fewer
    assert set(small.tolist()) <= set(large.tolist()) <= set(parts.train.tolist())


def test_shots_of_other_seeds_differ() -> None:
    parts = split([str(k) for k in range(100)], 0)
    assert draw_shots(parts, 25, 0).tolist() != draw_shots(parts, 25, 1).tolist()


def test_too_many_shots_quotes_both_numbers() -> None:
    parts = split([str(k) for k in range(10)], 0)
    with pytest.raises(InputError, match=r"9 asked for.*8 images"):
        draw_shots(parts, 9, 0)
    with pytest.raises(InputError, match="0 asked for"):
        draw_shots(parts, 0, 0)


def test_shots_from_ratio() -> None:
    parts = Split(np.arange(930), np.arange(930, 1162), 0)
    assert [shots_from_ratio(parts, ratio) for ratio in (0.1, 0.2, 1.0)] == [93, 186, 930]
    for ratio in (0.0, -0.1, 1.01, 0.0001):
        with pytest.raises(InputError, match="data ratio"):
            shots_from_ratio(parts, ratio)


@settings(max_examples=60, deadline=None)
@given(IDS, SEEDS, FRACTIONS)
def test_held_out_fraction(ids: list[str], seed: int, fraction: float) -> None:
    rows = np.arange(0, len(ids), 2)
    if len(named(ids, rows)) < 2:
        with pytest.raises(InputError, match="references"):
            validation_folds(rows, ids, seed, fraction=fraction)
        return
    [(fit, held_out)] = validation_folds(rows, ids, seed, fraction=fraction)
    assert sorted([*fit, *held_out]) == rows.tolist()
    assert not named(ids, fit) & named(ids, held_out)
    assert len(fit)
    assert len(held_out)


@settings(max_examples=60, deadline=None)
@given(IDS, SEEDS, st.integers(2, 6))
def test_folds_hold_every_row_out_once(ids: list[str], seed: int, folds: int) -> None:
    rows = np.arange(len(ids))
    if len(set(ids)) < folds:
        with pytest.raises(InputError, match=f"{len(set(ids))} references, {folds} are needed"):
            validation_folds(rows, ids, seed, folds=folds)
        return
    pairs = validation_folds(rows, ids, seed, folds=folds)
    assert len(pairs) == folds
    assert sorted(row for _, held_out in pairs for row in held_out) == rows.tolist()
    sizes = [len(held_out) for _, held_out in pairs]
    assert max(sizes) - min(sizes) <= max(ids.count(name) for name in ids)
    for fit, held_out in pairs:
        assert sorted([*fit, *held_out]) == rows.tolist()
        assert not named(ids, fit) & named(ids, held_out)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 references"):
        split(["a", "a"], 0)
    for fraction in (0.0, 1.0, -0.2):
        with pytest.raises(InputError, match="test_fraction"):
            split(["a", "b"], 0, fraction)
    ids = ["a", "b", "c"]
    for options in ({}, {"fraction": 0.5, "folds": 2}, {"fraction": 1.0}, {"folds": 1}):
        with pytest.raises(InputError, match="validation"):
            validation_folds([0, 1, 2], ids, 0, **options)
