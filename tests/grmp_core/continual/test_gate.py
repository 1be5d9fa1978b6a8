"""The gate against SciPy, and what a further set leaves alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax

from grmp_core.continual.centres import centres_of
from grmp_core.continual.gate import Gate, gate_features
from grmp_core.seeds import narrow_seed

EARLY = 3


def gate_of(*centres: np.ndarray, sharpness: float = 5.0) -> Gate:
    first, *others = [torch.from_numpy(each.astype(np.float32)) for each in centres]
    owner = torch.zeros(len(first), dtype=torch.long)
    gate = Gate(centres_KE=first, owner_K=owner, sharpness=sharpness, early_size=EARLY, deep=True)
    for other in others:
        gate = gate.extended(other)
    return gate


@pytest.fixture
def sets() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(count, 4)) for count in (3, 1, 5)]


def test_weights_are_the_softmax_of_the_distance_to_the_nearest_centre(sets):
    statistics = np.random.default_rng(1).normal(size=(7, EARLY + 4))
    late = statistics[:, EARLY:] / np.linalg.norm(statistics[:, EARLY:], axis=1, keepdims=True)
    nearest = np.stack([cdist(late, each.astype(np.float32)).min(axis=1) for each in sets], axis=1)
    weights = gate_of(*sets).weights(torch.from_numpy(statistics))
    np.testing.assert_allclose(weights.numpy(), softmax(-5.0 * nearest, axis=1), atol=1e-6)


def test_a_further_set_keeps_the_proportions_of_the_others(sets):
    statistics = torch.randn(6, EARLY + 4, generator=torch.Generator().manual_seed(0))
    before, after = gate_of(*sets[:2]).weights(statistics), gate_of(*sets).weights(statistics)
    torch.testing.assert_close(after[:, :2] / after[:, :2].sum(dim=1, keepdim=True), before)


def test_without_sharpness_all_weigh_alike_and_with_much_one_takes_all(sets):
    statistics = torch.randn(6, EARLY + 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gate_of(*sets, sharpness=0.0).weights(statistics), torch.full((6, 3), 1 / 3).double())
    assert (gate_of(*sets, sharpness=1e6).weights(statistics).max(dim=1).values > 0.999).all()


def test_it_comes_back_from_its_tensors(sets):
    gate = gate_of(*sets)
    found = Gate.from_parameters({"other": torch.zeros(1), **gate.to_parameters()})
    for field in dataclasses.fields(Gate):
        ours, theirs = getattr(gate, field.name), getattr(found, field.name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs, field.name
    assert Gate.from_parameters({"other": torch.zeros(1)}) is None


def test_centres_are_the_means_of_separate_groups():
    rng = np.random.default_rng(0)
    middles = np.array([[4.0, 0], [0, 4], [-4, -4]])
    groups = [middle + 0.1 * rng.normal(size=(20, 2)) for middle in middles]
    found = centres_of(np.concatenate(groups), 3, seed=0).numpy()
    expected = np.stack([group.mean(axis=0) for group in groups])
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], expected[np.argsort(expected[:, 0])], atol=1e-5)


def test_few_different_images_leave_few_centres():
    features = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert len(centres_of(features, 32, seed=0)) == 2


def test_features_are_the_late_statistics_at_length_one():
    statistics = torch.tensor([[9.0, 9, 9, 3, 4]])
    torch.testing.assert_close(gate_features(statistics, EARLY), torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 2**63 - 1])
def test_every_seed_of_the_configuration_gives_centres(seed):
    features = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    centres = centres_of(features, 3, seed)
    assert centres.shape == (3, 4)
    assert torch.equal(centres, centres_of(features, 3, seed))


def test_a_seed_of_32_bits_stays_what_it_is():
    assert [narrow_seed(seed) for seed in (0, 7, 2**32 - 1)] == [0, 7, 2**32 - 1]
    wide = [narrow_seed(seed) for seed in (2**32, 2**32 + 1, 2**63 - 1)]
    assert len(set(wide)) == 3
    assert all(0 <= seed < 2**32 for seed in wide)
