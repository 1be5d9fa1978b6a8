"""Folds, and label draws whose quality goes with the scene."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.evaluation import splits
from grmp_core.evaluation.protocol import SCORE_BINS, Protocol, ProtocolConfig, association, good_scenes
from grmp_core.evaluation.split_tables import SplitTable

RNG = np.random.default_rng(0)
NUM = 800
SCENES = RNG.choice(["animal", "cityscape", "human", "landscape", "night"], NUM).tolist()
QUALITY_N = RNG.random(NUM)
REFERENCES = tuple(f"group{i // 2}" for i in range(NUM))


def protocol(**settings) -> Protocol:
    scenes = "scenes.csv" if settings.get("bias") else None
    return Protocol(
        splits=SplitTable(reference_ids=REFERENCES),
        quality_N=QUALITY_N,
        scenes=tuple(SCENES) if scenes else None,
        config=ProtocolConfig(scenes=scenes, **settings),
    )


def test_without_settings_the_splits_and_draws_are_the_published_ones():
    parts = protocol().parts(3)
    expected = splits.split(REFERENCES, 3, 0.2)
    np.testing.assert_array_equal(parts.test, expected.test)
    np.testing.assert_array_equal(protocol().labelled(parts, 25), splits.draw_shots(expected, 25, 3))


def test_folds_are_fixed_hold_every_image_once_and_keep_references_together():
    folds = [protocol(folds=5).parts(seed) for seed in range(5)]
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(NUM))
    for fold in folds:
        assert not {REFERENCES[i] for i in fold.train} & {REFERENCES[i] for i in fold.test}
    np.testing.assert_array_equal(protocol(folds=5).parts(7).test, folds[2].test)  # 7 mod 5
    draws = [set(protocol(folds=5).labelled(protocol(folds=5).parts(seed), 25).tolist()) for seed in (2, 7)]
    assert draws[0] != draws[1]  # one fold, two draws


@pytest.mark.parametrize("shots", [25, 100])
def test_the_association_rises_with_the_bias_and_the_control_takes_it_away(shots):
    def mean_association(**settings) -> float:
        drawn = protocol(**settings)
        rows = [drawn.labelled(drawn.parts(seed), shots) for seed in range(20)]
        return float(np.mean([association([SCENES[i] for i in r], QUALITY_N[r]) for r in rows]))

    none, some, much = mean_association(), mean_association(bias=0.4), mean_association(bias=0.8)
    assert none < some < much
    assert mean_association(bias=0.8, control=True) < (none + much) / 2


def test_the_control_draw_has_the_counts_of_scenes_and_scores_of_the_biased_one():
    biased, control = protocol(bias=0.8), protocol(bias=0.8, control=True)
    parts = biased.parts(1)
    ranks = np.argsort(np.argsort(QUALITY_N[parts.train]))
    bin_of = dict(zip(parts.train, ranks * SCORE_BINS // len(parts.train), strict=True))
    draws = [drawn.labelled(parts, 60) for drawn in (biased, control)]
    for count in (lambda i: SCENES[i], lambda i: bin_of[i]):
        assert Counter(map(count, draws[0])) == Counter(map(count, draws[1]))
    assert len(set(draws[1].tolist())) == 60


def test_the_protocol_of_some_rows_and_folds_of_given_splits():
    drawn = protocol(bias=0.8).take(range(100, 200))
    assert drawn.splits.reference_ids == REFERENCES[100:200]
    assert drawn.scenes == tuple(SCENES[100:200])
    np.testing.assert_array_equal(drawn.quality_N, QUALITY_N[100:200])
    given = SplitTable(reference_ids=REFERENCES, given={"official": ("train", "test") * (NUM // 2)})
    folds = Protocol(splits=given, quality_N=QUALITY_N, config=ProtocolConfig(folds=5))
    with pytest.raises(InputError, match=r"set sweep\.splits to reference"):
        folds.parts(0)


def test_more_folds_than_references_are_refused_by_their_own_name():
    few = Protocol(
        splits=SplitTable(reference_ids=("a", "b", "c", "d", "e") * 2),
        quality_N=np.zeros(10),
        config=ProtocolConfig(folds=8),
    )
    with pytest.raises(InputError, match=r"^protocol\.folds 8 is more than the 5 references; lower it$"):
        few.parts(0)


def test_a_biased_draw_stays_in_the_training_part_and_fewer_labels_are_part_of_more():
    drawn = protocol(bias=0.8)
    parts = drawn.parts(4)
    few, many = (set(drawn.labelled(parts, shots).tolist()) for shots in (10, 50))
    assert few < many <= set(parts.train.tolist())


def test_good_scenes_hold_about_half_of_the_images():
    for seed in range(10):
        share = np.isin(SCENES, good_scenes(SCENES, seed)).mean()
        assert 0.3 <= share <= 0.6


def test_association_is_zero_for_one_value_and_one_where_the_scene_decides():
    assert association(["a", "a", "b", "b"], np.array([0.1, 0.3, 0.1, 0.3])) == pytest.approx(0)
    assert association(["a", "a", "b", "b"], np.array([0.1, 0.1, 0.9, 0.9])) == pytest.approx(1)
    assert association(["a", "b"], np.array([0.5, 0.5])) == 0


def test_a_full_bias_that_leaves_too_few_images_is_refused():
    with pytest.raises(InputError, match=r"protocol\.bias leaves"):
        protocol(bias=1.0).labelled(protocol(bias=1.0).parts(0), 600)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"folds": 1}, "folds 1"), ({"bias": 0.5}, r"needs protocol\.scenes"), ({"control": True}, "biased draw")],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ProtocolConfig(**settings)
