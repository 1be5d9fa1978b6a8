"""The report against known laws, and in every state of a sweep."""

from __future__ import annotations

import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import ReportConfig
from pipelines.reporting import sweep_report
from pipelines.reporting.sweep_report import write_report
from pipelines.results import labels_needed, statistics
from pipelines.results.sweep_folder import SweepFolder
from tests.pipelines.sweep_files import true_srcc, write_sweep

VOID = {"meta", "br", "img", "path", "use", "rect", "circle"}


class Reader(HTMLParser):
    """Checks that tags close in order; collects text, ids and everything that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.sources += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def trials_of(values: dict[tuple[float, int, int], tuple[float, float]]) -> pd.DataFrame:
    """(lambda, budget, seed) -> (val_srcc, srcc) as a table of finished trials."""
    rows = [
        {"lambda": s, "budget": n, "split_seed": k, "val_srcc": v, "srcc": t, "plcc": t, "seconds": 1.0, "error": None}
        for (s, n, k), (v, t) in values.items()
    ]
    return pd.DataFrame(rows)


def law(budgets, splits: int, ceiling=0.9, drop=1.2, rate=0.5, noise=0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    values = {}
    for n, k in itertools.product(budgets, range(splits)):
        y = ceiling - drop * n**-rate + noise * rng.normal()
        values[1.0, n, k] = (y, y)
    return trials_of(values)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, sweep_report.Report]:
    folder = tmp_path_factory.mktemp("full")
    write_sweep(folder, fail=["lambda=5-shots=25-seed=3"])
    return folder, write_report(Config(output=str(folder)))


# --- the page ------------------------------------------------------------------------------------------------------


def test_page_is_one_file_that_loads_nothing(full) -> None:
    text = Path(full[1].path_html).read_text()
    reader = read(text)
    assert reader.sources
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in reader.sources)
    assert "<script" not in text
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(set(reader.ids)) == len(reader.ids)
    targets = {source[1:] for source in reader.sources if source.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert targets <= set(reader.ids)


def test_summary_names_the_validated_lambda_and_its_median(full) -> None:
    folder, page = full
    chosen = json.loads((folder / "sweep" / "chosen.json").read_text())
    table = pd.read_parquet(folder / "sweep" / "results.parquet")
    cell = table[(table["lambda"] == chosen["lambda"]) & (table["shots"] == 200)]["srcc"]
    low, median, high = np.quantile(cell, [0.25, 0.5, 0.75])
    for text in (Path(page.path_html).read_text(), Path(page.path_md).read_text()):
        assert f"With 200 labelled images and lambda {chosen['lambda']:g}" in text
        assert f"SRCC) of {median:.3f}" in text.replace("\\", "")
        assert f"the 5 splits lie between {low:.3f} and {high:.3f}" in text


def test_failed_trial_is_listed_with_its_error_escaped(full) -> None:
    text = Path(full[1].path_html).read_text()
    assert "lambda=5-shots=25-seed=3" in text
    assert "quality loss is nan &lt;not a number&gt;" in text
    assert "<not a number>" not in text
    assert "4 <small>(1 failed)</small>" in text
    assert "149 of 150" in text


def test_rows_are_the_results_table(full) -> None:
    rows = {(row["lambda"], row["budget"]): row for row in full[1].rows}
    assert len(rows) == 30
    assert (rows[5.0, 25]["n"], rows[5.0, 25]["failed"]) == (4, 1)
    assert rows[2.0, 100]["srcc_median"] == pytest.approx(true_srcc(2, 100), abs=0.03)


def test_figures_are_written_as_png_and_named_in_the_markdown(full) -> None:
    folder, page = full
    named = re.findall(r"\]\((figures/\w+\.png)\)", Path(page.path_md).read_text())
    assert len(named) == 4
    for name in named:
        with Image.open(folder / "sweep" / name) as image:
            assert image.width > 800


def test_same_results_give_the_same_page(full) -> None:
    folder, page = full
    before = Path(page.path_html).read_bytes()
    assert Path(write_report(Config(output=str(folder))).path_html).read_bytes() == before


def test_worst_images_are_those_farthest_from_the_human_score(tmp_path) -> None:
    sweep = write_sweep(tmp_path, lambdas=(1,), shots=(50,), seeds=(0,), n_test=60)
    trial = SweepFolder(locate(sweep)).trial("lambda=1-shots=50-seed=0")
    table = trial.read_predictions()
    table["mos"] = 20 + 60 * table["quality"]
    table.loc[[3, 12], "mos"] += [45.0, -70.0]  # picture 12 cannot be decoded
    trial.write_predictions(table)
    text = Path(write_report(Config(output=str(tmp_path))).path_html).read_text()
    gallery = re.findall(r"<b>(photo-\d+\.jpg)</b>", text)
    assert gallery[:2] == ["photo-012.jpg", "photo-003.jpg"]
    assert len(gallery) == 10
    assert "not an image in a known format" in text
    assert text.count("data:image/jpeg") == 10 - len([g for g in gallery if int(g[6:9]) % 13 == 12])


# --- every state of a sweep ----------------------------------------------------------------------------------------


def test_smallest_sweep(tmp_path) -> None:
    write_sweep(tmp_path, lambdas=(1,), shots=(20,), seeds=(0,), n_test=12, images=False)
    page = write_report(Config(output=str(tmp_path)))
    text = Path(page.path_html).read_text()
    read(text)
    assert len(page.rows) == 1
    assert "one split only" in text
    assert "only 1 number of labels tried" in text
    assert "Lambda 0 was not tried" in text
    assert "no such file" in text


def test_all_trials_failed(tmp_path) -> None:
    write_sweep(tmp_path, lambdas=(0, 1), shots=(10,), seeds=(0,), fail="*", images=False)
    page = write_report(Config(output=str(tmp_path)))
    text = Path(page.path_html).read_text()
    read(text)
    assert "No trial finished" in text
    assert text.count("quality loss is nan") == 2
    assert all(row["n"] == 0 for row in page.rows)
    assert page.as_json()["rows"][0]["srcc_median"] is None


def test_sweep_that_has_not_ended_says_so(tmp_path) -> None:
    sweep = write_sweep(tmp_path, lambdas=(0, 1), shots=(10, 20), seeds=(0, 1), n_test=12, images=False)
    (sweep / "manifest.json").unlink()
    (sweep / "chosen.json").unlink()
    text = Path(write_report(Config(output=str(tmp_path))).path_html).read_text()
    assert "has not ended" in text
    assert "no model has been chosen yet" in text


def test_what_there_is_to_know_of_the_scores_is_said_first(tmp_path) -> None:
    config = {"output": str(tmp_path), "target": {"note": "Nobody rated these pictures."}}
    write_sweep(tmp_path, lambdas=(0, 1), shots=(10, 20), seeds=(0, 1), n_test=12, images=False, config=config)
    text = Path(write_report(Config(output=str(tmp_path))).path_html).read_text()
    assert text.index("Nobody rated these pictures.") < text.index("rank correlation")


def test_no_sweep_is_bad_input(tmp_path) -> None:
    with pytest.raises(InputError, match=r"results\.parquet is missing; run grmp sweep first"):
        write_report(Config(output=str(tmp_path)))


def test_foreign_table_is_bad_input(tmp_path) -> None:
    (tmp_path / "sweep").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "sweep" / "results.parquet")
    with pytest.raises(InputError, match="lacks the columns trial, lambda"):
        write_report(Config(output=str(tmp_path)))


def test_cost_is_hours_times_price(tmp_path) -> None:
    write_sweep(tmp_path, lambdas=(1,), shots=(100,), seeds=(0, 1), n_test=12, images=False)
    sweep = SweepFolder.of(str(tmp_path)).read()
    page = sweep_report.build_page(sweep, ReportConfig(cost_per_hour=36), Config().images)
    (section,) = [s for s in page.sections if s.title == "Time and cost"]
    assert section.blocks[1].rows[0] == ("100", "2 min", "2", "4 min", "2.20")  # 2 trials of 110 s


@pytest.mark.parametrize("change", [{"srcc_target": 1.0}, {"worst_images": -1}, {"thumbnail_px": 3}])
def test_settings_out_of_range(change: dict) -> None:
    with pytest.raises(InputError):
        ReportConfig(**change)


# --- what it computes ----------------------------------------------------------------------------------------------


def test_fit_finds_the_law_that_made_the_points() -> None:
    n = np.array([10, 25, 50, 100, 200, 400])
    fit = labels_needed.fit_saturating(n, 0.9 - 1.2 * n**-0.5)
    assert (fit.ceiling, fit.drop, fit.rate) == pytest.approx((0.9, 1.2, 0.5), rel=0.03)
    assert fit.budget_for(0.8) == pytest.approx(144, rel=0.02)
    assert fit.budget_for(0.95) == math.inf
    assert fit(fit.budget_for(0.85)) == pytest.approx(0.85)


def test_fit_is_no_worse_than_a_numerical_search_within_its_bounds() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    for _ in range(5):
        n = np.array([8.0, 20, 60, 150])
        y = np.clip(np.sort(rng.uniform(0.2, 0.99, 4)) + 0.02 * rng.normal(size=4), -1, 0.995)
        fit = labels_needed.fit_saturating(n, y)
        assert fit.ceiling <= 1
        assert fit.drop >= 0

        def squares(b, n=n, y=y):
            return float(np.mean((b[0] - b[1] * n ** -b[2] - y) ** 2))

        bounds = [(-1, 1), (0, 50), (0.05, 4)]
        best = min(minimize(squares, (0.9, s, r), bounds=bounds).fun for s in (0.5, 5) for r in (0.1, 0.5, 2))
        assert fit.rms**2 <= best * 1.02 + 1e-6


def test_falling_curve_is_flat_and_doubted() -> None:
    answer = labels_needed.labels_needed(law((10, 20, 40, 80), 5, drop=-0.5), 0.99)
    assert answer.fit.drop == 0
    assert any("does not rise" in doubt for doubt in answer.doubts)


def test_answer_inside_the_measured_range_is_trusted() -> None:
    answer = labels_needed.labels_needed(law((10, 25, 50, 100, 200), 6, noise=0.002), 0.75)
    assert answer.doubts == ()
    assert answer.estimate == pytest.approx(64, rel=0.1)
    assert answer.low <= answer.estimate <= answer.high
    assert answer.measured == 100


@pytest.mark.parametrize(
    ("table", "target", "doubt"),
    [
        (law((10, 25, 50, 100), 6), 0.85, "extrapolation"),
        (law((10, 25, 50, 100), 6), 0.95, "levels off below the target"),
        (law((10, 25, 50), 6), 0.7, "hardly determine"),
        (law((10, 25), 6), 0.7, "only 2 numbers of labels"),
        (law((10, 25, 50, 100), 2), 0.7, "only 2 splits"),
        (law((10, 25, 50, 100, 200), 6, drop=0.1, noise=0.05), 0.88, ""),
    ],
)
def test_answers_that_must_not_be_trusted_say_why(table: pd.DataFrame, target: float, doubt: str) -> None:
    doubts = labels_needed.labels_needed(table, target).doubts
    assert any(doubt in text for text in doubts)


def test_measured_answer_asks_for_all_larger_budgets_too() -> None:
    values = {(1.0, n, 0): (y, y) for n, y in ((10, 0.81), (20, 0.7), (40, 0.82), (80, 0.9))}
    assert labels_needed.labels_needed(trials_of(values), 0.8).measured == 40
    assert labels_needed.labels_needed(trials_of(values), 0.95).measured is None


def test_regret_by_hand() -> None:
    values = {
        (0.0, 10, 0): (0.5, 0.60), (0.0, 10, 1): (0.6, 0.70),
        (2.0, 10, 0): (0.7, 0.58), (2.0, 10, 1): (0.5, 0.72),
        (5.0, 10, 0): (0.4, 0.66), (5.0, 10, 1): (0.4, 0.74),
    }  # fmt: skip
    (row,) = statistics.regret(trials_of(values)).to_dict("records")
    assert (row["lambda_chosen"], row["lambda_best"]) == (2.0, 5.0)
    assert row["regret"] == pytest.approx(0.70 - 0.65)
    assert row["split_regret"] == pytest.approx(np.median([0.66 - 0.58, 0.74 - 0.70]))


def test_paired_tests_are_scipys_over_common_splits() -> None:
    rng = np.random.default_rng(0)
    values = {}
    for k in range(8):
        base = rng.normal(0.7, 0.02)
        values[0.0, 10, k] = (0, base)
        if k != 3:  # failed in one split
            values[1.0, 10, k] = (0, base + rng.normal(0.01, 0.005))
    (row,) = statistics.paired_tests(trials_of(values)).to_dict("records")
    pairs = [(values[1.0, 10, k][1], values[0.0, 10, k][1]) for k in range(8) if k != 3]
    assert row["n"] == 7
    assert row["p"] == pytest.approx(stats.wilcoxon(*zip(*pairs, strict=True)).pvalue)
    assert row["difference"] == pytest.approx(np.median([a - b for a, b in pairs]))
    assert row["p_smallest"] == 2**-6


def test_holm_by_hand() -> None:
    assert statistics.holm(np.array([0.03, 0.01, 0.04])).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert statistics.holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]


def test_cells_are_numpys_quantiles_and_leave_failures_out() -> None:
    table = trials_of({(1.0, 10, k): (0.5, v) for k, v in enumerate((0.1, 0.4, 0.5, 0.9))})
    table.loc[3, ["error", "srcc"]] = ["died", math.nan]
    (row,) = statistics.cells(table).to_dict("records")
    assert (row["n"], row["failed"]) == (3, 1)
    assert [row["srcc_q1"], row["srcc_median"], row["srcc_q3"]] == pytest.approx([0.25, 0.4, 0.45])
