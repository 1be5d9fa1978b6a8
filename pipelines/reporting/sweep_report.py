"""The report of a sweep, as one self-contained HTML file, Markdown and PNG figures.

Reads `<output>/sweep` (results, predictions, manifest) and writes beside them. The same results give the same bytes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import ImageLimits
from pipelines.configuration.sweeping import ReportConfig
from pipelines.rendering import palette
from pipelines.rendering.document import (
    Block,
    Cell,
    Facts,
    Folded,
    Note,
    Page,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    to_html,
    to_markdown,
)
from pipelines.reporting import findings
from pipelines.reporting.charts import number
from pipelines.reporting.findings import NONE, answer_of, decimals, short_answer
from pipelines.reporting.trust import intervals_and_refusals
from pipelines.results import statistics
from pipelines.results.sweep_folder import SweepFolder, SweepResults

if TYPE_CHECKING:  # the configuration holds this file's section
    from pipelines.configuration.schema import Config


@dataclass(frozen=True)
class Report:
    path_html: str
    path_md: str
    rows: tuple[dict[str, Any], ...]
    """One row per lambda and number of labels, as `statistics.cells` gives it."""

    def as_json(self) -> dict[str, Any]:
        rows = [{key: None if value != value else value for key, value in row.items()} for row in self.rows]  # NaN
        return {"html": self.path_html, "markdown": self.path_md, "rows": rows}

    def as_text(self) -> str:
        return f"{self.path_html}\n{self.path_md}"


def write_report(config: Config) -> Report:
    """Write report.html, report.md and figures/*.png into `<output>/sweep`. InputError where there is no sweep."""
    settings = config.report
    sweep = SweepFolder.of(config.output).read()
    page = build_page(sweep, settings, config.images)
    figures = {picture.name: palette.to_png(picture.figure) for picture in _pictures(page)}
    html, markdown = sweep.folder.write_report(to_html(page), to_markdown(page), figures)
    rows = statistics.cells(sweep.trials).to_dict("records")
    return Report(html.uri, markdown.uri, tuple(rows))


def build_page(sweep: SweepResults, settings: ReportConfig, limits: ImageLimits) -> Page:
    """The whole report as blocks. Sections for which the sweep has no data are left out."""
    table = statistics.cells(sweep.trials)
    sections = [Section("Summary", _summary(sweep, table, settings))]
    if table["n"].any():
        sections += [
            Section("Agreement with people, by number of labels", findings.learning_curves(table, settings)),
            Section("How many labels are enough?", findings.enough_labels(sweep, table, settings)),
            Section("Which lambda?", findings.lambdas(sweep)),
        ]
        sections += findings.chosen_model(sweep, settings, limits)
        sections += intervals_and_refusals(sweep)
        sections += [Section("All results", _results(table)), Section("Time and cost", _time(sweep, table, settings))]
    sections += findings.search_tried(sweep)
    if len(sweep.failed):
        sections.append(Section("Failed trials", _failures(sweep)))
    sections.append(Section("Provenance", _provenance(sweep)))
    made = sweep.manifest.get("created_utc", "")
    return Page("Sweep report", f"{sweep.folder.uri}{' · ' + made if made else ''}", sections)


# --- sections ------------------------------------------------------------------------------------------------------


def _summary(sweep: SweepResults, table: pd.DataFrame, settings: ReportConfig) -> list[Block]:
    counts = f"{len(sweep.finished)} of {len(sweep.trials)} trials finished"
    blocks: list[Block] = []
    if not sweep.manifest:
        blocks.append(Note("This sweep has not ended: its manifest is missing, and more trials may follow.", (), True))
    if note := sweep.manifest.get("config", {}).get("target", {}).get("note"):
        blocks.append(Note(note, (), True))
    cell = _chosen_cell(sweep, table)
    if sweep.chosen is None or cell is None:
        text = "No trial finished, so there is no model to recommend. The reasons are listed below."
        if len(sweep.finished):
            text = "Trials have finished, but no model has been chosen yet."
        return [*blocks, Note(text, (), True), Facts((("Trials", counts.split(" trials")[0], "finished"),))]
    strength, budget = number(sweep.chosen.strength), int(cell["budget"])
    spread = f"half of the {int(cell['n'])} splits lie between {cell['srcc_q1']:.3f} and {cell['srcc_q3']:.3f}"
    if cell["n"] == 1:
        spread = "there is one split only, so the spread is unknown"
    lead = (
        f"With {budget} labelled images and lambda {strength}, predictions reach a median rank correlation (SRCC) of "
        f"{cell['srcc_median']:.3f} with human scores on images never seen in training; {spread}."
    )
    answer = answer_of(sweep, settings)
    facts = (
        ("Agreement (SRCC)", f"{cell['srcc_median']:.3f}", "1 is the order of the raters, 0 is chance"),
        ("Chosen lambda", strength, "by validation within the labels; no test image took part"),
        (f"Labels for SRCC {settings.srcc_target:g}", *short_answer(answer)),
        ("Trials", f"{len(sweep.finished)} of {len(sweep.trials)}", "finished"),
    )
    return [*blocks, Text(lead, lead=True), Facts(facts)]


def _results(table: pd.DataFrame) -> list[Block]:
    rows, strong = [], set()
    best = table.groupby("budget")["srcc_median"].transform("max")
    for i, r in enumerate(table.assign(best=best).sort_values(["budget", "lambda"]).to_dict("records")):
        if r["n"] and r["srcc_median"] == r["best"] and table["lambda"].nunique() > 1:
            strong.add(i)
        splits: Cell = (str(r["n"]), f"({r['failed']} failed)") if r["failed"] else str(r["n"])
        spreads = (_spread(*(r[f"{metric}_{part}"] for part in ("median", "q1", "q3"))) for metric in ("srcc", "plcc"))
        rows.append((str(r["budget"]), number(r["lambda"]), *spreads, splits))
    text = "Medians over splits with quartiles; the best lambda for each number of labels is bold."
    header = ("labels", "lambda", "SRCC", "PLCC", "splits")
    pairs = enumerate(itertools.pairwise(row[0] for row in rows), start=1)
    breaks = frozenset(i for i, (before, now) in pairs if before != now)
    return [Text(text), Table(header, tuple(rows), frozenset(strong), breaks)]


def _time(sweep: SweepResults, table: pd.DataFrame, settings: ReportConfig) -> list[Block]:
    good = sweep.finished
    wall = sweep.manifest.get("seconds")
    total = f"Trials took {_duration(good['seconds'].sum())} in total"
    text = total + (f"; completed runs of the sweep took {_duration(wall)} of wall time." if wall is not None else ".")
    hourly = settings.cost_per_hour
    header = ("labels", "median time of a trial", "trials", "total time") + (("total cost",) if hourly else ())
    rows = []
    for budget, group in good.groupby("budget"):
        spent = group["seconds"].sum()
        row: tuple[Cell, ...] = (f"{budget}", _duration(group["seconds"].median()), str(len(group)), _duration(spent))
        rows.append(row + ((f"{spent / 3600 * hourly:.2f}",) if hourly else ()))
    if hourly:
        text += f" At {hourly:g} per hour of a trial they cost {good['seconds'].sum() / 3600 * hourly:.2f}."
    return [Text(text), Table(header, tuple(rows))]


def _failures(sweep: SweepResults) -> list[Block]:
    failed = sweep.failed[["trial", "error"]].to_dict("records")
    rows = tuple((str(r["trial"]), " ".join(str(r["error"]).split())) for r in failed)
    return [
        Text(f"{len(rows)} of {len(sweep.trials)} trials failed; the numbers above leave them out."),
        Table(("trial", "error"), rows, text_columns=frozenset((0, 1))),
    ]


def _provenance(sweep: SweepResults) -> list[Block]:
    manifest = sweep.manifest
    if not manifest:
        return [Text("The sweep has not written its manifest yet.")]
    versions = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    rows = [
        ("command", str(manifest.get("command", NONE))),
        ("written (UTC)", str(manifest.get("created_utc", NONE))),
        ("commit", str(manifest.get("git_commit") or NONE)),
        ("versions", versions or NONE),
        *((f"input {name}", str(value)) for name, value in manifest.get("inputs", {}).items()),
        *((str(name), str(value)) for name, value in manifest.get("counts", {}).items()),
    ]
    if sweep.chosen is not None:
        rows.append(("choice", sweep.chosen.reason))
    rejected = manifest.get("rejected", [])
    rows.append(("rejected inputs", str(len(rejected))))
    blocks: list[Block] = [Table(("item", "value"), tuple(rows), text_columns=frozenset((0, 1)))]
    if rejected:
        lines = [f"{r.get('path', '')}: {r.get('reason', '')}" if isinstance(r, dict) else str(r) for r in rejected]
        blocks.append(Folded("Rejected inputs", "\n".join(lines)))
    return [*blocks, Folded("Configuration", yaml.safe_dump(manifest.get("config", {}), sort_keys=False).rstrip())]


# --- parts ---------------------------------------------------------------------------------------------------------


def _chosen_cell(sweep: SweepResults, table: pd.DataFrame) -> pd.Series | None:
    if sweep.chosen is None:
        return None
    chosen = sweep.trials[sweep.trials["trial"] == sweep.chosen.trial]
    if not len(chosen):
        raise InputError(
            f"{sweep.folder.uri}/chosen.json names {sweep.chosen.trial}, but results.parquet has no such trial"
        )
    cell = table[(table["lambda"] == chosen.iloc[0]["lambda"]) & (table["budget"] == chosen.iloc[0]["budget"])]
    return cell.iloc[0] if cell.iloc[0]["n"] else None


def _pictures(page: Page) -> list[Picture]:
    blocks = [block for section in page.sections for block in section.blocks]
    return [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]


def _spread(median: float, low: float, high: float) -> Cell:
    return NONE if math.isnan(median) else (decimals(median), f"{decimals(low)} to {decimals(high)}")


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return NONE
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
