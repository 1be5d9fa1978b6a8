"""Which of two models is the better one, and when nothing can be said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from grmp_core.confidence.evidence import Evidence
from grmp_core.evaluation.metrics import srcc
from grmp_core.imaging.decoding import ImageLimits, id_of_file
from grmp_core.model.bundle import LEARNED_FROM, read_bundle, write_bundle
from grmp_core.model.scorer import Scorer
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.registry.champion_decision import Comparison, compare, coverage_verdict, judge, verdict
from pipelines.results.sweep_folder import TrialFolder
from tests.pipelines.registry.bundles import hold_out, qualities


def test_comparison_with_itself_is_zero() -> None:
    rng = np.random.default_rng(0)
    quality, mos = rng.normal(size=80), rng.normal(size=80)
    result = compare(quality, quality, mos)
    assert result.difference == 0
    assert result.lower == 0


def test_lower_bound_is_the_percentile_of_scipys_srcc_over_the_same_resamples() -> None:
    rng = np.random.default_rng(1)
    mos = np.round(rng.normal(size=30), 1)
    a, b = mos + rng.normal(size=30), mos + 2 * rng.normal(size=30)
    rows = np.random.default_rng(0).integers(30, size=(2000, 30))
    drawn = np.array([srcc(a[r], mos[r]) - srcc(b[r], mos[r]) for r in rows])
    assert compare(a, b, mos).lower == pytest.approx(np.quantile(drawn, 0.05))


def test_small_lead_on_few_images_is_not_enough() -> None:
    rng = np.random.default_rng(2)
    mos = rng.normal(size=25)
    a, b = mos + 0.50 * rng.normal(size=25), mos + 0.55 * rng.normal(size=25)
    assert compare(a, b, mos).lower < 0


def test_margin_decides() -> None:
    result = Comparison(0.9, 0.8, 0.1, 0.05, 100)
    assert verdict(result, 0.04, "3")[0]
    assert not verdict(result, 0.05, "3")[0]


def held_verdict(held: int, count: int, labels: int) -> tuple[bool, str]:
    """`coverage_verdict` of intervals that hold `held` of `count` human scores."""
    human = np.linspace(0, 1, count)
    high = np.where(np.arange(count) < held, human, human - 1e-6)
    return coverage_verdict(human - 0.1, high, human, 0.9, labels)


def test_intervals_of_many_labels_that_hold_too_few_scores_are_refused() -> None:
    """The bound is the largest count whose binomial distribution function is below 5 %."""
    bound = next(held for held in range(61) if stats.binom.cdf(held, 60, 0.9) >= 0.05)
    for held in range(61):
        passes, text = held_verdict(held, 60, 1_000_000)
        assert passes == (held >= bound)
        assert f"hold {held} of 60 human scores, 90% are promised by 1000000 labels" in text


@pytest.mark.parametrize("labels", [19, 49, 199])
def test_sound_intervals_are_seldom_refused_however_few_labels_made_them(labels) -> None:
    """Errors of labelled and of new images come from one distribution. The binomial test refuses a fifth with 19."""
    rng, draws, count = np.random.default_rng(3), 4000, 100
    refused_C = np.array([not held_verdict(held, count, labels)[0] for held in range(count + 1)])
    margin_D = np.quantile(rng.random((draws, labels)), 0.9, axis=1, method="weibull")
    assert 0.02 <= refused_C[rng.binomial(count, margin_D)].mean() <= 0.06
    assert refused_C[rng.binomial(count, margin_D / 2)].mean() > 0.95


def keep_evidence(folder: Path, errors_N: np.ndarray) -> None:
    """Give a bundle held-out predictions of quality .5 that miss their labels by `errors_N`."""
    predicted, number = np.full(len(errors_N), 0.5), len(errors_N)
    statistics, names = np.random.default_rng(0).normal(size=(number, 96)), tuple(map(str, range(number)))
    evidence = Evidence.of(predicted, predicted + errors_N, statistics, names, early_size=48, deep=False)
    write_bundle(locate(folder), dataclasses.replace(read_bundle(locate(folder)), evidence=evidence))


@pytest.mark.parametrize(("error", "promoted"), [(0.4, True), (0.01, False)])
def test_a_better_ranking_with_intervals_that_are_too_narrow_does_not_become_champion(
    make_bundle, images, error, promoted
):
    """Human scores are 0.1 of the scale off the candidate's, which intervals of small held-out errors do not hold."""
    good, bad = make_bundle(2), make_bundle(1)
    keep_evidence(good, np.full(30, error))
    quality = qualities(good, images)
    hold_out(good, images, 100 * (quality + 0.1))
    scores = Scorer(read_bundle(locate(good)), "test").score(images)  # with the intervals that users get
    held = sum(score.quality_low <= score.quality + 0.1 <= score.quality_high for score in scores)
    assert (held == 40) == promoted
    found, reason = judge(locate(good), "7", lambda: locate(bad), 0.0, ImageLimits())
    assert found == promoted
    assert ("" if promoted else "stays: ") + f"its intervals hold {held} of 40 human scores" in reason


def test_intervals_are_tested_on_held_out_images_that_the_champion_knows_too(make_bundle, images):
    good, bad = make_bundle(2), make_bundle(1)
    keep_evidence(good, np.full(30, 0.01))
    human = qualities(good, images)
    human[:20] += 0.1
    champion = read_bundle(locate(bad))
    seen = {LEARNED_FROM: [id_of_file(path) for path in images[:20]]}
    write_bundle(locate(bad), dataclasses.replace(champion, provenance={**champion.provenance, **seen}))
    hold_out(good, images, 100 * human)
    promoted, reason = judge(locate(good), "7", lambda: locate(bad), 0.0, ImageLimits())
    assert not promoted
    assert "its intervals hold 20 of 40 human scores" in reason
    assert "on the same 20 held-out images" in reason


def test_a_better_ranking_without_intervals_becomes_champion_and_says_so(make_bundle, images):
    good, bad = make_bundle(2), make_bundle(1)
    hold_out(good, images, 100 * qualities(good, images))
    promoted, reason = judge(locate(good), "7", lambda: locate(bad), 0.0, ImageLimits())
    assert promoted
    assert "no intervals were tested: it keeps no held-out predictions" in reason


def test_model_with_one_score_for_all_ranks_nothing() -> None:
    mos = np.arange(30.0)
    nearly = np.where(np.arange(30) % 2, 0.5, np.nextafter(np.float32(0.5), 1))  # what rounding makes of one score
    assert compare(mos, nearly, mos) == compare(mos, np.full(30, 0.5), mos)
    result = compare(mos, np.full(30, 0.5), mos)
    assert (result.champion, result.difference) == (0, 1)
    assert result.lower == pytest.approx(1)


def test_without_predictions_the_champion_stays(make_bundle) -> None:
    place = locate(make_bundle(7))
    promoted, reason = judge(place, "4", lambda: place, 0.0, ImageLimits())
    assert not promoted
    assert reason.startswith("champion version 4 stays: there are no held-out predictions")


def test_the_better_model_is_known_by_labels_where_less_is_better(make_bundle, images) -> None:
    good, bad = make_bundle(9), make_bundle(10)
    quality = qualities(good, images)
    for folder in (good, bad):
        bundle = read_bundle(locate(folder))
        write_bundle(
            locate(folder),
            dataclasses.replace(bundle, score_range=ScoreRange(mos_min=0, mos_max=100, higher_is_better=False)),
        )
        hold_out(folder, images, 100 * (1 - quality))
    assert judge(locate(good), "4", lambda: locate(bad), 0.0, ImageLimits())[0]
    promoted, reason = judge(locate(bad), "4", lambda: locate(good), 0.0, ImageLimits())
    assert not promoted
    assert "against 1.000" in reason


def test_held_out_images_may_lie_elsewhere(make_bundle, images) -> None:
    folder = make_bundle(11)
    hold_out(folder, images, np.arange(40.0))
    trial = TrialFolder(locate(folder.parent))
    trial.write_predictions(trial.read_predictions().assign(image_path=[Path(path).as_uri() for path in images]))
    reason = judge(locate(folder), "4", lambda: locate(folder), 0.0, ImageLimits())[1]
    assert "on the same 40 held-out images" in reason


def test_no_held_out_image_decides_nothing(make_bundle) -> None:
    folder = make_bundle(12)
    hold_out(folder, [], np.empty(0))
    promoted, reason = judge(locate(folder), "4", lambda: locate(folder), 0.0, ImageLimits())
    assert not promoted
    assert "0 of 0 held-out images can be read and are new to it, 10 are needed" in reason


def test_too_few_readable_images_decide_nothing(make_bundle, images) -> None:
    folder = make_bundle(8)
    hold_out(folder, images, np.arange(40.0))
    trial = TrialFolder(locate(folder.parent))
    table = trial.read_predictions()
    table.loc[9:, "image_path"] = "/nowhere.png"
    trial.write_predictions(table)
    promoted, reason = judge(locate(folder), "4", lambda: locate(folder), 0.0, ImageLimits())
    assert not promoted
    assert "9 of 40 held-out images can be read and are new to it, 10 are needed" in reason
