"""The page of an inspection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.imaging.decoding import ImageLimits
from grmp_core.inspection.inspected_set import InspectedSet
from pipelines.configuration.labels import InspectConfig
from pipelines.inspection import charts
from pipelines.rendering.document import (
    Block,
    Facts,
    Folded,
    Gallery,
    Note,
    Page,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    Thumbnail,
)
from pipelines.rendering.thumbnails import thumbnail

_GROUPS = 6
_LISTED = 20


def build_page(inspected: InspectedSet, root: str, config: InspectConfig, limits: ImageLimits) -> Page:
    """All sections as blocks; pictures are read again for their thumbnails."""
    content, good = inspected.content, inspected.frame
    pictures = _Pictures(good, config.thumbnail_px, limits)
    sections = [Section("Summary", _summary(content)), Section("Scores", _scores(content, good, pictures, config))]
    if len(good):
        sections.append(Section("Sizes and kinds of files", _files(content, good)))
        sections.append(Section("Duplicates", _duplicates(content, pictures)))
    sections.append(Section("Leaks from training", _leaks(content, pictures)))
    left_out = [f"{row['path']}: {row['reason']}" for row in content["left_out"]]
    left_out += [f"{row['name']}: {row['error']}" for row in content["unreadable"]]
    if left_out:
        summary = f"{len(content['left_out'])} label rows left out, {len(content['unreadable'])} images unreadable"
        sections.append(Section("Left out", [Folded(summary, "\n".join(left_out))]))
    return Page(f"Inspection of {content['dataset']}", root, sections)


def findings(content: dict[str, Any]) -> list[str]:
    """Findings that need a person's eye, one sentence each; empty where there are none."""
    duplicates, leaks, hidden = content["duplicates"], content["leaks"], content["shortcuts"]
    found = []
    if leaks["images"]:
        found.append(f"{_number(leaks['images'])} near-duplicates of training photos of {leaks['model']}.")
    if leaks["learned_from"]:
        found.append(f"{leaks['model']} was adapted to {len(leaks['learned_from'])} of the images.")
    if duplicates["across_training_and_test"]:
        count = duplicates["across_training_and_test"]
        found.append(f"Groups of near-duplicates with images in the official training and test part: {count}.")
    if across := duplicates["across_references"]["groups"]:
        images = duplicates["across_references"]["images"]
        found.append(f"Near-duplicates under different references: {images:,} images in {across:,} group(s).")
    hints = [one for one in hidden["properties"] if one["is_hint"]]
    found += [f"The {one['name']} ranks the scores with SRCC {one['srcc']:.2f}: a hint at a shortcut." for one in hints]
    forest = hidden["srcc_of_size_shape_and_kind"]
    if forest is not None and forest >= 0.2:
        found.append(f"Size, shape and kind of the file alone predict held-out scores with SRCC {forest:.2f}.")
    misnamed = sum(kind["misnamed"] for kind in content["kinds"])
    if misnamed:
        found.append(f"{misnamed} files have the ending of another kind of file.")
    if content["unreadable"]:
        found.append(f"{len(content['unreadable'])} images cannot be read.")
    return found


def _number(images: Sequence[str]) -> str:
    return "1 image is among the" if len(images) == 1 else f"{len(images):,} images are"


def _summary(content: dict[str, Any]) -> list[Block]:
    scores, duplicates, leaks = content["scores"], content["duplicates"], content["leaks"]
    scale = f"scale {scores['scale'][0]:g} to {scores['scale'][1]:g}"
    known = "unknown" if leaks["known_photos"] is None else str(len(leaks["images"]))
    against = f"of {leaks['model']}" + (f", {leaks['known_photos']} photos" if leaks["known_photos"] else "")
    facts = (
        ("images", f"{content['images']:,}", f"{len(content['unreadable'])} unreadable"),
        ("scores", f"{scores['min']:.4g} to {scores['max']:.4g}", scale),
        ("references", f"{content['references']['count']:,}", "kept together in every split"),
        (
            "near-duplicates",
            f"{duplicates['across_references']['images']:,}",
            f"across references, in {duplicates['across_references']['groups']:,} group(s)",
        ),
        ("seen in training", known, against),
    )
    found = findings(content)
    lead = " ".join(found) or "Nothing that needs a closer look was found."
    blocks: list[Block] = [Text(lead, lead=True), Facts(facts)]
    if content["notes"]:
        blocks.append(Note("How the labels were read:", tuple(content["notes"])))
    if content["parts"]:
        parts = ", ".join(f"{count:,} {part}" for part, count in sorted(content["parts"].items()))
        blocks.append(Text(f"Official split: {parts}."))
    return blocks


def _scores(content: dict[str, Any], good: pd.DataFrame, pictures: _Pictures, config: InspectConfig) -> list[Block]:
    scores = content["scores"]
    chart = Picture("scores", charts.histogram(scores), "Images by score", "How many images have which score.")
    blocks: list[Block] = [
        Text(
            f"Median {scores['median']:.4g}, standard deviation {scores['std']:.3g}, {scores['distinct']:,} different "
            "scores."
        )
    ]
    if len(good) == 0:
        return [*blocks, Pictures((chart,))]
    figure, unit = charts.score_by_size(good)
    sizes = Picture("score_by_size", figure, f"Scores by {unit}", f"Scores by {unit} and kind of file.")
    ranks = np.argsort(good["quality"].to_numpy(), kind="stable")
    chosen = ranks[np.unique(np.linspace(0, len(ranks) - 1, config.pictures).astype(int))]
    return [*blocks, Pictures((chart, sizes)), Text("From the worst score to the best:"), pictures.gallery(chosen)]


def _files(content: dict[str, Any], good: pd.DataFrame) -> list[Block]:
    hidden, sizes = content["shortcuts"], content["sizes"]
    forest = hidden["srcc_of_size_shape_and_kind"]
    alone = "too few images, or all alike" if forest is None else f"SRCC {forest:.2f}"
    text = (
        "A property of the file that ranks the scores is a hint at a shortcut: a model may learn it in the place of "
        f"quality. {100 * hidden['variance_between_kinds']:.1f} % of the variance of scores is between kinds of files. "
        f"A forest that knows size, shape and kind only, on held-out references: {alone}."
    )
    rows = [
        (one["name"], "–" if np.isnan(one["srcc"]) else f"{one['srcc']:+.3f}", "hint" if one["is_hint"] else "")
        for one in hidden["properties"]
    ]
    hints = frozenset(i for i, row in enumerate(rows) if row[2])
    kinds = [
        (kind["kind"], f"{kind['images']:,}", f"{kind['quality']:.3f}", str(kind["misnamed"]))
        for kind in content["kinds"]
    ]
    frequent = [
        (f"{size['width_px']} x {size['height_px']}", f"{size['images']:,}", f"{size['quality']:.3f}")
        for size in sizes["most_frequent"]
    ]
    return [
        Text(text),
        Table(("property", "SRCC with quality", ""), tuple(rows), hints, text_columns=frozenset({0, 2})),
        Table(("kind", "images", "median quality", "named otherwise"), tuple(kinds), text_columns=frozenset({0})),
        Text(f"{sizes['distinct']:,} different sizes; the most frequent:"),
        Table(("size in px", "images", "median quality"), tuple(frequent), text_columns=frozenset({0})),
    ]


def _duplicates(content: dict[str, Any], pictures: _Pictures) -> list[Block]:
    found = content["duplicates"]
    equal = found["equal_files"]
    text = (
        f"Files with the same bytes: {equal['images']:,}, in {equal['groups']:,} group(s). Groups of near-duplicates: "
        f"{found['within_references']:,} share a reference, as distorted versions do; "
        f"{found['across_references']['groups']:,} do not, so a split by reference may part them. They differ "
        "in 5 of the 64 bits of a perceptual hash at most; some may be different photos of one scene."
    )
    blocks: list[Block] = [Text(text)]
    if found["groups"]:
        shown = found["groups"][:_GROUPS]
        blocks.append(Text("Those whose scores differ the most:"))
        blocks += [pictures.named(group["images"][:4], "") for group in shown]
        lines = [
            f"{' = '.join(group['images'])}  (scores {', '.join(f'{score:.4g}' for score in group['scores'])}"
            f"{'; ' + ' and '.join(group['parts']) if len(group['parts']) > 1 else ''})"
            for group in found["groups"]
        ]
        blocks.append(Folded("All groups", "\n".join(lines)))
    return blocks


def _leaks(content: dict[str, Any], pictures: _Pictures) -> list[Block]:
    leaks = content["leaks"]
    if leaks["known_photos"] is None:
        text = f"Nobody knows the training photos of {leaks['model']}, so they were not looked for."
    else:
        text = (
            f"Compared with the perceptual hashes of all {leaks['known_photos']:,} training photos of {leaks['model']}."
        )
    blocks: list[Block] = [Text(text)]
    for names, what in (
        (leaks["images"], "near-duplicates of training photos"),
        (leaks["learned_from"], "learned from"),
    ):
        if names:
            blocks.append(Note(f"{len(names)} images: {what}", tuple(names[:_LISTED]), warning=True))
            blocks.append(pictures.named(names[:8], what))
    return blocks


class _Pictures:
    """Thumbnails of the images, by row or name."""

    def __init__(self, good: pd.DataFrame, longest_px: int, limits: ImageLimits) -> None:
        self.good, self.longest_px, self.limits = good, longest_px, limits
        self._row_of = {name: row for row, name in enumerate(good["name"])}

    def gallery(self, rows: Sequence[int] | np.ndarray, remark: str = "") -> Gallery:
        return Gallery(tuple(self._thumbnail(self.good.iloc[row], remark) for row in rows))

    def named(self, names: Sequence[str], remark: str) -> Gallery:
        return self.gallery([self._row_of[name] for name in names], remark)

    def _thumbnail(self, row: pd.Series, remark: str) -> Thumbnail:
        jpeg, problem = thumbnail(str(row["path"]), self.longest_px, self.limits)
        words = [f"score {row['mos']:.4g}", str(row["part"] or ""), remark, problem or ""]
        return Thumbnail(jpeg, str(row["name"]).rpartition("/")[2], ", ".join(filter(None, words)))
