"""The report's findings: how many labels, which lambda, how good the chosen model is and where it is wrong."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from grmp_core.errors import ImageError, InputError
from grmp_core.evaluation.metrics import (
    MIN_INTERVAL_IMAGES,
    FitWarning,
    LogisticFit,
    bootstrap_interval,
    fit_logistic,
    srcc,
)
from grmp_core.imaging.decoding import ImageLimits, read_image
from grmp_core.storage import locate
from pipelines.configuration.workloads import ReportConfig
from pipelines.rendering.document import Block, Cell, Gallery, Note, Picture, Pictures, Section, Table, Text, Thumbnail
from pipelines.reporting import charts
from pipelines.reporting.charts import number
from pipelines.results import statistics
from pipelines.results.labels_needed import LabelsNeeded, labels_needed
from pipelines.results.sweep_folder import SweepResults

NONE = "–"


def learning_curves(table: pd.DataFrame, settings: ReportConfig) -> list[Block]:
    text = (
        "SRCC says how well the model puts unseen images into the order people put them in. Lines are medians over "
        "splits, bands the middle half of the splits."
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
            "Median SRCC for every combination; the darker, the better.",
        ),
    ]
    return [Text(text), Pictures(tuple(pictures))]


def enough_labels(sweep: SweepResults, table: pd.DataFrame, settings: ReportConfig) -> list[Block]:
    strength, answer = _main_lambda(sweep), answer_of(sweep, settings)
    target = f"SRCC {settings.srcc_target:g}"
    if answer.measured is None:
        measured = f"Measured: none of the numbers of labels that were tried reaches a median {target}."
    else:
        measured = f"Measured: {answer.measured} is the smallest number tried from which the median stays at {target}."
    blocks: list[Block] = [Text(f"For lambda {number(strength)}. {measured}")]
    if answer.doubts:
        estimate = f"The fitted curve says {_estimate_text(answer)}. Do not rely on it:" if answer.fit else "No curve:"
        blocks.append(Note(estimate, answer.doubts, True))
    else:
        blocks.append(Note(f"The fitted curve says {_estimate_text(answer)}; nothing in the data speaks against it."))
    if answer.fit is None:
        return blocks
    fit = answer.fit
    caption = (
        f"Fit: SRCC = {fit.ceiling:.3f} − {fit.drop:.3g} · n^−{fit.rate:.2f}, missing the medians by {fit.rms:.3f} "
        "(root mean square). Bars are quartiles over splits; dotted is beyond what was measured."
    )
    figure = charts.labels_curve(table, strength, answer)
    picture = Picture("labels_needed", figure, f"Saturating fit of SRCC by labels for lambda {strength:g}", caption)
    return [*blocks, Pictures((picture,))]


def lambdas(sweep: SweepResults) -> list[Block]:
    blocks: list[Block] = []
    losses = statistics.regret(sweep.trials)
    if len(losses) and sweep.trials["lambda"].nunique() > 1:
        header = ("labels", "chosen by validation", "its SRCC", "best in hindsight", "its SRCC", "regret", "alone")
        rows = [
            (
                str(r["budget"]), number(r["lambda_chosen"]), decimals(r["srcc_chosen"]), number(r["lambda_best"]),
                decimals(r["srcc_best"]), decimals(r["regret"]), decimals(r["split_regret"]),
            )
            for r in losses.to_dict("records")
        ]  # fmt: skip
        text = (
            "Regret is what choosing lambda without looking at test images cost: the best lambda's median SRCC in "
            "hindsight minus that of the one validation chose. 'Alone' is the median regret when each split chooses "
            "for itself."
        )
        blocks += [Text(text), Table(header, tuple(rows))]
    else:
        blocks.append(Text("Only one lambda was tried, or validation scored none, so there is no choice to judge."))
    return blocks + _tests(sweep)


def _tests(sweep: SweepResults) -> list[Block]:
    tests = statistics.paired_tests(sweep.trials)
    if not len(tests):
        return [Text("Lambda 0 was not tried beside others, so whether lambda > 0 helps cannot be tested.")]
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
                f"With at most {tests['n'].max()} paired splits no p-value can be below {smallest:.3g}, and "
                f"{len(tests)} tests ask for {0.05 / len(tests):.2g}: this sweep could not have found significance.",
                ("Splits share images, so their differences are not independent; p-values are a guide.",),
                True,
            )
        )
    strengths = sorted(tests["lambda"].unique())
    rows = []
    for budget, group in tests.groupby("budget"):
        at = {test["lambda"]: test for test in group.to_dict("records")}
        rows.append((f"{budget}", *(_test_cell(at.get(strength)) for strength in strengths)))
    header = ("labels", *(f"lambda {number(strength)}" for strength in strengths))
    caption = "Median difference in SRCC to lambda 0, with its p-value before correction; * holds after it."
    return [*blocks, Text(caption), Table(header, tuple(rows))]


def _test_cell(test: dict[Any, Any] | None) -> Cell:
    if test is None:
        return NONE
    difference = f"{test['difference']:+.3f}".replace("-", "−")
    return f"{difference}{'*' if test['p_holm'] < 0.05 else ''}", f"p {test['p']:.2g}"


def search_tried(sweep: SweepResults) -> list[Section]:
    """What a search before the grid tried; nothing where the sweep was a grid only."""
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
        f"{inputs['search']}. No test score of that split took part; in the other splits some of the images it saw are "
        "test images, so the setting (not the weights) knows their scores there. Every other number of this report is "
        "for the setting that won."
    )
    header = (*keys, "validation SRCC", "epochs", "how it ended")
    won = frozenset(np.flatnonzero(table["won"]).tolist())
    return [Section("What the search tried", [Text(text), Table(header, rows, won)])]


def chosen_model(sweep: SweepResults, settings: ReportConfig, limits: ImageLimits) -> list[Section]:
    if sweep.chosen is None:
        return []
    trial = sweep.chosen.trial
    folder = sweep.folder.trial(trial)
    table = folder.read_predictions()
    if table is None:
        missing = f"The predictions of {trial} are missing ({folder.predictions.uri}); its scatter cannot be shown."
        return [Section("The chosen model", [Note(missing, (), True)])]
    quality, mos = table["quality"].to_numpy(float), table["mos"].to_numpy(float)
    predicted_mos = table["mos_scale_score"].to_numpy(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # a straight line is told from a logistic map in the legend
        fit = fit_logistic(quality, mos)
    low, high = bootstrap_interval(srcc, predicted_mos, mos)
    interval = f"95 % interval {decimals(low)} to {decimals(high)} (bootstrap over images)"
    if math.isnan(low):
        few = f"there are fewer than {MIN_INTERVAL_IMAGES}" if len(mos) < MIN_INTERVAL_IMAGES else "it is not defined"
        interval = f"without an interval, since {few}"
    text = (
        f"{trial}: of its lambda's splits the one with the best validation SRCC. On its {len(table)} test images SRCC "
        f"is {decimals(srcc(predicted_mos, mos))}, {interval}."
    )
    caption = f"Each dot is one of {len(table)} images the model never saw. Bundle: {sweep.chosen.bundle}"
    picture = Picture("scatter", charts.scatter(quality, mos, fit), "Predicted quality against human score", caption)
    sections = [Section("The chosen model", [Text(text), Pictures((picture,))])]
    if settings.worst_images:
        sections.append(Section("Where it is most wrong", _worst(table, fit, settings, limits)))
    return sections


def _worst(table: pd.DataFrame, fit: LogisticFit, settings: ReportConfig, limits: ImageLimits) -> list[Block]:
    expected = fit(table["quality"].to_numpy(float))
    errors = expected - table["mos"].to_numpy(float)
    worst = np.argsort(-np.abs(errors), kind="stable")[: settings.worst_images]
    shown = []
    for i in worst:
        row = table.iloc[i]
        remark = f"people {row['mos']:.1f}, model {expected[i]:.1f}"
        jpeg, problem = _thumbnail(str(row["image_path"]), settings.thumbnail_px, limits)
        name = str(row["image_path"]).rsplit("/", 1)[-1]
        shown.append(Thumbnail(jpeg, name, f"{remark} ({problem})" if problem else remark))
    text = f"The {len(shown)} test images farthest from their human score; predictions are mapped to its scale."
    return [Text(text), Gallery(tuple(shown))]


def _main_lambda(sweep: SweepResults) -> float:
    """The chosen lambda; without a choice the one with the best median SRCC at the largest budget."""
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
        return f"≤ {answer.measured}", "as measured; the curve is too uncertain to say less"
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


def _thumbnail(path: str, longest_px: int, limits: ImageLimits) -> tuple[bytes | None, str | None]:
    """A small JPEG of a picture, or null and the reason why there is none."""
    try:
        place = locate(path)
        image = read_image(place.path if place.is_local else place.read_bytes(), limits)
    except ImageError as error:
        return None, error.reason
    except (InputError, OSError) as error:
        return None, " ".join(str(error).split())
    small = Image.fromarray(image)
    small.thumbnail((longest_px, longest_px))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return buffer.getvalue(), None


def decimals(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f}"
