"""Findings of the report: labels needed, lambda, quality of the chosen model and its worst errors."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.evaluation.logistic_map import FitWarning, LogisticFit, fit_logistic
from grmp_core.evaluation.metrics import MIN_INTERVAL_IMAGES, bootstrap_interval, srcc
from grmp_core.imaging.decoding import ImageLimits
from pipelines.configuration.sweeping import ReportConfig
from pipelines.rendering.document import Block, Cell, Gallery, Note, Picture, Pictures, Section, Table, Text, Thumbnail
from pipelines.rendering.thumbnails import thumbnail
from pipelines.reporting import charts
from pipelines.reporting.charts import number
from pipelines.results import statistics
from pipelines.results.labels_needed import LabelsNeeded, labels_needed
from pipelines.results.sweep_folder import SweepResults

NONE = "–"


def learning_curves(table: pd.DataFrame, settings: ReportConfig) -> list[Block]:
    text = (
        "SRCC measures how well the model ranks unseen images in the order people ranked them. Lines are medians over "
        "splits; bands hold the middle half of the splits."
    )
    pictures = [
        Picture(
            "learning_curves",
            charts.learning_curves(table, settings.srcc_target),
            "Median SRCC by number of labelled images, one line a lambda",
            "SRCC by number of labelled images (logarithmic axis), with interquartile bands.",
        ),
        Picture(
            "heat_map",
            charts.heat_map(table),
            "Median SRCC for each lambda and number of labelled images",
            "Median SRCC for each combination; darker is better.",
        ),
    ]
    return [Text(text), Pictures(tuple(pictures))]


def enough_labels(sweep: SweepResults, table: pd.DataFrame, settings: ReportConfig) -> list[Block]:
    strength, answer = _main_lambda(sweep), answer_of(sweep, settings)
    target = f"SRCC {settings.srcc_target:g}"
    if answer.measured is None:
        measured = f"Measured: no tried number of labels reaches a median {target}."
    else:
        measured = f"Measured: from {answer.measured} labels on, the median stays at {target} or above."
    blocks: list[Block] = [Text(f"For lambda {number(strength)}. {measured}")]
    if answer.doubts:
        estimate = (
            f"The fitted curve gives {_estimate_text(answer)}. Do not rely on it:"
            if answer.fit
            else "No curve was fitted:"
        )
        blocks.append(Note(estimate, answer.doubts, True))
    else:
        blocks.append(Note(f"The fitted curve gives {_estimate_text(answer)}, and passes every check."))
    if answer.fit is None:
        return blocks
    fit = answer.fit
    caption = (
        f"Fit: SRCC = {fit.ceiling:.3f} − {fit.drop:.3g} · n^−{fit.rate:.2f}, with a root mean square error of "
        f"{fit.rms:.3f} against the medians. Bars are quartiles over splits; the dotted part is extrapolated."
    )
    figure = charts.labels_curve(table, strength, answer)
    picture = Picture("labels_needed", figure, f"Saturating fit of SRCC by labels for lambda {strength:g}", caption)
    return [*blocks, Pictures((picture,))]


def lambdas(sweep: SweepResults) -> list[Block]:
    blocks: list[Block] = []
    losses = statistics.regret(sweep.trials)
    if len(losses) and sweep.trials["lambda"].nunique() > 1:
        header = ("labels", "chosen by validation", "its SRCC", "best in hindsight", "its SRCC", "regret", "per split")
        rows = [
            (
                str(r["budget"]), number(r["lambda_chosen"]), decimals(r["srcc_chosen"]), number(r["lambda_best"]),
                decimals(r["srcc_best"]), decimals(r["regret"]), decimals(r["split_regret"]),
            )
            for r in losses.to_dict("records")
        ]  # fmt: skip
        text = (
            "Regret is the price of choosing lambda without looking at test images: the median test SRCC of the best "
            "lambda in hindsight, minus that of the lambda chosen by validation. 'Per split' is the median regret when "
            "each split chooses its own lambda."
        )
        blocks += [Text(text), Table(header, tuple(rows))]
    else:
        blocks.append(
            Text("Only one lambda was tried, or none has a validation score, so there is no choice to assess.")
        )
    return blocks + _tests(sweep)


def _tests(sweep: SweepResults) -> list[Block]:
    tests = statistics.paired_tests(sweep.trials)
    if not len(tests):
        return [Text("Lambda 0 was not tried alongside others, so the sweep cannot tell whether lambda > 0 helps.")]
    significant = int((tests["p_holm"] < 0.05).sum())
    text = (
        f"Lambda above 0 against lambda 0 on the same splits (two-sided Wilcoxon signed-rank test): {significant} of "
        f"{len(tests)} differences are significant at 5 % after Holm's correction."
    )
    blocks: list[Block] = [Text(text)]
    smallest = tests["p_smallest"].min()
    if smallest > 0.05 / len(tests):
        blocks.append(
            Note(
                f"With at most {tests['n'].max()} paired splits no p-value can be below {smallest:.3g}, but "
                f"{len(tests)} tests require {0.05 / len(tests):.2g}: this sweep is too small to show significance.",
                ("Splits share images, so their differences are not independent; take p-values as a guide.",),
                True,
            )
        )
    strengths = sorted(tests["lambda"].unique())
    rows = []
    for budget, group in tests.groupby("budget"):
        at = {test["lambda"]: test for test in group.to_dict("records")}
        rows.append((f"{budget}", *(_test_cell(at.get(strength)) for strength in strengths)))
    header = ("labels", *(f"lambda {number(strength)}" for strength in strengths))
    caption = (
        "Median difference in SRCC from lambda 0, with the uncorrected p-value; * is significant after correction."
    )
    return [*blocks, Text(caption), Table(header, tuple(rows))]


def _test_cell(test: dict[Any, Any] | None) -> Cell:
    if test is None:
        return NONE
    difference = f"{test['difference']:+.3f}".replace("-", "−")
    return f"{difference}{'*' if test['p_holm'] < 0.05 else ''}", f"p {test['p']:.2g}"


def search_tried(sweep: SweepResults) -> list[Section]:
    """The settings that a search before the grid tried; no section where the sweep was a grid only."""
    if sweep.searched is None:
        return []
    table, inputs = sweep.searched, sweep.manifest["inputs"]
    keys = list(inputs["settings"])
    rows = tuple(
        (*(number(r[key]) if isinstance(r[key], float) else str(r[key]) for key in keys), decimals(r["val_srcc"]),
         str(r["epochs"]), "stopped early" if r["stopped"] else "finished" if pd.isna(r["error"]) else str(r["error"]))
        for r in table.to_dict("records")
    )  # fmt: skip
    text = (
        f"{inputs['search']}. The search used no test score of that split. In the other splits, some of the images it "
        "saw are test images, so there the setting (not the weights) was chosen with their scores. All other numbers "
        "of this report are for the winning setting."
    )
    header = (*keys, "validation SRCC", "epochs", "how it ended")
    won = frozenset(np.flatnonzero(table["won"]).tolist())
    return [Section("Settings tried by the search", [Text(text), Table(header, rows, won)])]


def chosen_model(sweep: SweepResults, settings: ReportConfig, limits: ImageLimits) -> list[Section]:
    if sweep.chosen is None:
        return []
    trial = sweep.chosen.trial
    folder = sweep.folder.trial(trial)
    table = folder.read_predictions()
    if table is None:
        missing = f"The predictions of {trial} are missing ({folder.predictions.uri}), so there is no scatter plot."
        return [Section("The chosen model", [Note(missing, (), True)])]
    quality, mos = table["quality"].to_numpy(float), table["mos"].to_numpy(float)
    predicted_mos = table["mos_scale_score"].to_numpy(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # the legend tells a straight line from a logistic map
        fit = fit_logistic(quality, mos)
    low, high = bootstrap_interval(srcc, predicted_mos, mos)
    interval = f"95 % interval {decimals(low)} to {decimals(high)} (bootstrap over images)"
    if math.isnan(low):
        few = f"there are fewer than {MIN_INTERVAL_IMAGES}" if len(mos) < MIN_INTERVAL_IMAGES else "it is not defined"
        interval = f"without an interval, since {few}"
    text = (
        f"{trial} has the best validation SRCC among the splits at its lambda. On its {len(table)} test images SRCC "
        f"is {decimals(srcc(predicted_mos, mos))}, {interval}."
    )
    caption = f"Each dot is one of {len(table)} images the model never saw. Bundle: {sweep.chosen.bundle}"
    picture = Picture("scatter", charts.scatter(quality, mos, fit), "Predicted quality against human score", caption)
    sections = [Section("The chosen model", [Text(text), Pictures((picture,))])]
    if settings.worst_images:
        sections.append(Section("Largest errors", _worst(table, fit, settings, limits)))
    return sections


def _worst(table: pd.DataFrame, fit: LogisticFit, settings: ReportConfig, limits: ImageLimits) -> list[Block]:
    expected = fit(table["quality"].to_numpy(float))
    errors = expected - table["mos"].to_numpy(float)
    worst = np.argsort(-np.abs(errors), kind="stable")[: settings.worst_images]
    shown = []
    for i in worst:
        row = table.iloc[i]
        remark = f"people {row['mos']:.1f}, model {expected[i]:.1f}"
        jpeg, problem = thumbnail(str(row["image_path"]), settings.thumbnail_px, limits)
        name = str(row["image_path"]).rsplit("/", 1)[-1]
        shown.append(Thumbnail(jpeg, name, f"{remark} ({problem})" if problem else remark))
    text = f"The {len(shown)} test images with the largest errors. Predictions are mapped to the scale of human scores."
    return [Text(text), Gallery(tuple(shown))]


def _main_lambda(sweep: SweepResults) -> float:
    """The chosen lambda, or without a choice the one with the best median SRCC at the largest number of labels."""
    if sweep.chosen is not None:
        return sweep.chosen.strength
    table = statistics.cells(sweep.trials)
    table = table[table["n"] > 0].sort_values(["budget", "srcc_median"])
    return float(table.iloc[-1]["lambda"])


def answer_of(sweep: SweepResults, settings: ReportConfig) -> LabelsNeeded:
    good = sweep.finished
    return labels_needed(good[good["lambda"] == _main_lambda(sweep)], settings.srcc_target)


def short_answer(answer: LabelsNeeded) -> tuple[str, str]:
    if not answer.doubts:
        return f"{answer.estimate:.0f}", f"between {_bound(answer.low)} and {_bound(answer.high)}"
    if answer.measured is not None:
        return f"≤ {answer.measured}", "as measured; the curve is too uncertain for a closer answer"
    return "unknown", "not reached with the labels tried"


def _estimate_text(answer: LabelsNeeded) -> str:
    if math.isinf(answer.estimate):
        return f"that SRCC {answer.target:g} is never reached"
    text = f"{answer.estimate:.0f} labels for SRCC {answer.target:g}"
    if math.isnan(answer.low):
        return text
    return f"{text} (90 % interval over resampled splits: {_bound(answer.low)} to {_bound(answer.high)})"


def _bound(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"


def decimals(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f}"
