"""Sections of labelled images: the target, its inspection, rating, and what to rate next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from grmp_core.planning.settings import DEFAULT_RULE, ENOUGH_GAIN, Rule
from grmp_core.settings import PathText, Settings, Share, Text


@dataclass(frozen=True, kw_only=True)
class TargetConfig(Settings):
    """The labelled images to adapt to and to test on."""

    dataset: Text = "table"
    """`table`: a table with an image and a score column (CSV, TSV, Parquet, JSON lines, Excel), or votes: the log of
    `grmp rate`, or a table of rankings (rater, ranking, image, rank). A published set as
    downloaded: agiqa3k, biq2021, csiq, flive, kadid10k, koniq10k, live, live_realigned, livec, pipal, spaq, tid2013,
    uhd_iqa. Or the .yaml file that describes a set of yours."""
    path: PathText | None = None
    """File or folder of the set; null where a command needs no labels, or for the folder of the .yaml file."""
    image_folder: PathText | None = None
    """Folder that the image names of a `table` are relative to, itself relative to the table's; null: the table's own.
    KonIQ-10k as published: 1024x768."""
    image_column: Text | None = None
    """Column of a `table` with the image's path, one row an image; null: by its usual names (image, filename, path, …).
    Scores of several raters: average them first."""
    score_column: Text | None = None
    """Column of a `table` with the human score, in the table's own scale; null: by its usual names (mos, score, …)."""
    reference_column: Text | None = None
    """Column of a `table` with the name of the pristine original: images of one are never split between training and
    test. null: every image is its own, files with equal bytes are one."""
    weight_column: str | None = None
    """Column of a `table` with how much a label counts in training, a number above 0; null: a column called weight,
    where there is one; '': none. Test images count alike."""
    score_min: float | None = None
    """Smallest score of a `table`'s scale, with `score_max`; null: the smallest that occurs."""
    score_max: float | None = None
    """Largest score of a `table`'s scale, with `score_min`; null: the largest that occurs in the whole table, test rows
    included. Published: in the labelled images, and in the test images by themselves."""
    votes: Text | None = None
    """Of a `table` with `deviation_column`: how many people each score is the mean of, a column, or one number for
    all."""
    deviation_column: Text | None = None
    """Column of a `table` with the standard deviation of the votes for an image: labels count in training by their
    certainty, of which `votes` is the other half. null: none."""
    vote_labels: Literal["mean", "screened", "model"] = "mean"
    """How grades of a vote log become labels, as `rate.labels` says."""
    vote_references: PathText | None = None
    """Table with the columns image and reference, beside a vote log: labels are differences to the graded reference
    (DMOS), and images of one reference are never split between training and test."""
    higher_is_better: bool | None = None
    """false: scores of a `table` are differences (DMOS), where a large one is a bad image. null: true, but of a column
    whose name says dmos it has to be said."""
    max_reject_fraction: Share = 0.0
    """Share of the label rows that may be left out (image missing or unreadable, no usable score); with more the set is
    refused."""
    allow_leaks: bool = False
    """Go on although images of the target are near-duplicates of photos that the backbone was trained on. false: that
    is an error. Known of grmp-nano; `grmp inspect` lists them, and its split files leave them out."""
    encoded: PathText | None = None
    """Folder of this machine that keeps what the frozen part of the model makes of the images, for all trials, all arms
    of an ablation, and later runs; null: grmp-iqa/encoded in the user's cache folder. Delete it to clear it."""
    encoded_gb: Annotated[float, Gt(0)] = 20
    """Gigabytes of that folder, at most; what was used longest ago leaves it first, and what is in use stays."""
    note: str = ""
    """A line for readers of the report about the scores, such as that no people gave them."""


@dataclass(frozen=True, kw_only=True)
class InspectConfig(Settings):
    """Inspection of the target."""

    model: PathText | None = None
    """A bundle's folder or an MLflow model whose training photos and labels are looked for in the target; null: the
    backbone alone."""
    write_splits: PathText | None = None
    """CSV file for the splits that `sweep` would take (sweep.splits, sweep.split_seeds), for others to use, too.
    Near-duplicates stand on one side (of a given split the test side), and leaks on none. null: none is written."""
    pictures: Annotated[int, Ge(0)] = 24
    """Pictures of the contact sheet, evenly chosen from the worst score to the best."""
    thumbnail_px: Annotated[int, Ge(16)] = 200
    """Longest side of a picture, in pixels."""


@dataclass(frozen=True, kw_only=True)
class RateConfig(Settings):
    """The rating page, and the labels that follow from its votes."""

    folder: PathText | None = None
    """Folder of the images to rate, with its sub-folders."""
    votes: PathText | None = None
    """The vote log; null: votes.jsonl in the folder."""
    mode: Literal["grades", "pairs"] = "grades"
    """`grades`: one image, five grades from bad to excellent. `pairs`: two images, which one is better."""
    images: Annotated[int, Ge(2)] = 50
    """Images that each rater is asked for, the same ones for all; raters can go on after them. Pairs: three times as
    many comparisons among them."""
    repeat_every: Annotated[int, Ge(0)] = 10
    """Every so many votes the page asks again what the rater has answered before; 0: never. Repeats measure consistency
    and are no labels."""
    order: Literal["planned", "random"] = "planned"
    """Which image comes next that nobody has rated. `planned`: as `grmp next` picks, and the page shows how much ten
    labels more would bring; images are encoded while people rate. `random`, and always for pairs: any."""
    host: Text = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs a token, which the printed link has."""
    port: Annotated[int, Ge(0), Le(65535)] = 8765
    """Port to listen on; 0: a free one."""
    token_file: PathText | None = None
    """File that keeps the token, made where it is missing, so that links stay valid; null: a new token every time."""
    export: PathText | None = None
    """Write the labels that follow from the votes to this .csv file, and serve no page."""
    labels: Literal["mean", "screened", "model"] = "mean"
    """How grades become labels. `mean`: of all raters. `screened`: without those who fail the screening of ITU-R
    BT.500. `model`: biases of the raters taken away, consistent ones weigh more (after ITU-T P.913)."""
    references: PathText | None = None
    """Table with the columns image and reference, both as seen from the folder: the labels of `export` are differences
    to the graded reference (DMOS)."""
    import_file: PathText | None = None
    """JSON export of Label Studio, or a table of rankings (rater, ranking, image, rank), whose votes are added to the
    log; no page is served."""


@dataclass(frozen=True, kw_only=True)
class NextConfig(Settings):
    """Which images to rate next, and when to stop. The folder and its votes are those of `rate`."""

    count: Annotated[int, Ge(1)] = 10
    """Images to name."""
    rule: Rule = DEFAULT_RULE
    """`coverage`: unlike what is labelled. `spread`: all levels of predicted quality. `disagreement`: unlike, and the
    labels so far do not settle its quality. `combined`: all three."""
    sample: Annotated[int, Ge(0)] = 5000
    """Images of the folder, drawn at random, that are encoded and picked from; 0: all. More take longer, once."""
    enough_gain: Annotated[float, Ge(0)] = ENOUGH_GAIN
    """Labels are enough where ten more are expected to raise the SRCC by less, at the upper end of the interval."""
    list_file: PathText | None = None
    """Text file for the names, one a line; null: next.txt beside the votes."""
    features: PathText | None = None
    """Folder that keeps what the backbone makes of the images; null: .grmp-features beside the votes."""
