"""Votes as a labelled set: the log of `grmp rate`, or a table of rankings, in the place of a table of labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from grmp_core.datasets.label_table import find_label_file, join_equal_files
from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, build, relative
from grmp_core.datasets.tables import READABLE_SUFFIXES, open_table
from grmp_core.datasets.usual_names import SCORE_NAMES
from grmp_core.errors import InputError
from grmp_core.imaging.decoding import id_of_file
from grmp_core.ratings.differences import read_references
from grmp_core.ratings.label_table import ImageLabel, Labels, Method, labels_of, weights_of
from grmp_core.ratings.rankings import COLUMNS, read_rankings
from grmp_core.ratings.vote_log import BEST_GRADE, WORST_GRADE, Vote, read_log
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location, locate

_FIRST_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class CurrentVotes:
    """Votes on the images as they are now."""

    votes: tuple[Vote, ...]
    gone: tuple[str, ...]
    """Images with votes whose files are gone."""
    unreadable: tuple[str, ...]
    """Images with votes whose files cannot be read."""
    changed: tuple[str, ...]
    """Images with votes on other files than the present ones; later votes on the present file count."""

    def require_some(self, folder: str, setting: str) -> None:
        """InputError where there were votes and none of them counts; `setting` names the folder and is to correct."""
        lost = {"gone": self.gone, "not readable": self.unreadable, "changed since": self.changed}
        images = list(dict.fromkeys(image for names in lost.values() for image in names))
        if images and not self.votes:
            counts = ", ".join(f"{len(names)} {word}" for word, names in lost.items() if names)
            raise InputError(
                f"{folder}: no vote is on a file that is there now: of the voted images {counts}, such as {images[0]}; "
                f"correct {setting}"
            )


def current_votes(votes: Sequence[Vote], folder: str, id_of: Callable[[str], str | None] = id_of_file) -> CurrentVotes:
    """Without the votes on images of the folder that are gone or cannot be read, or on files that have changed since.

    Where a rater's first vote on an image or pair is left out, the next one takes its place and is no repeat.

    id_of: path of a file -> its `image_id`, null where it cannot be read.
    """
    images = list(dict.fromkeys(image for vote in votes for image in vote.images))
    files = {image: os.path.join(folder, image) for image in images}
    gone = tuple(image for image in images if not os.path.isfile(files[image]))
    missing = set(gone)
    ids = {image: id_of(files[image]) for image in images if image not in missing}
    unreadable = tuple(image for image, known in ids.items() if known is None)
    changed = tuple(dict.fromkeys(image for vote in votes for image in vote.changed_images(ids)))
    absent = missing.union(unreadable)
    kept = [vote for vote in votes if not absent & set(vote.images) and not vote.changed_images(ids)]
    return CurrentVotes(votes=_with_first_votes(kept), gone=gone, unreadable=unreadable, changed=changed)


def _with_first_votes(votes: Sequence[Vote]) -> tuple[Vote, ...]:
    answered: set[tuple[str, tuple[str, ...]]] = set()
    whole = []
    for vote in votes:
        key = vote.rater, tuple(sorted(vote.images))
        whole.append(vote if key in answered else replace(vote, repeat=False))
        answered.add(key)
    return tuple(whole)


def votes_file(path: str) -> str | None:
    """The vote log or the table of rankings at a path, a file or a folder with one such file; null for another table.

    A log is told by its first entry, rankings by their columns. Only files of this machine are looked into.
    """
    if "://" in path:
        return None
    location = locate(path)
    if not os.path.exists(location.path):
        return None
    file = location if os.path.isfile(location.path) else _only_log(location)
    if file is None or not file.name.lower().endswith(READABLE_SUFFIXES):
        return None
    return file.path if _is_log(file) or _is_rankings(file) else None


def load_votes(
    path: str,
    max_reject_fraction: float,
    *,
    method: Method = "mean",
    score_range: ScoreRange | None = None,
    image_folder: str | None = None,
    use_weights: bool = True,
    references: str | None = None,
) -> LabelledSet:
    """Labels from a vote log or rankings, as `labels_of` makes them, with the images of the file's folder.

    Images that are gone, cannot be read or have changed since they were rated are rejected, and so are rows of rankings
    that cannot be used; of an image that was rated again after a change the earlier votes are left out, with a note.
    Grades have the scale from 1 to 5 unless `score_range` has another one; pairs and differences that of the labels.

    Args:
        image_folder: that image paths are relative to, itself relative to the file's folder; null: that folder.
        use_weights: let labels count in training by their certainty.
        references: table of the reference of each image, relative to the file's folder; labels are then differences.

    Raises:
        InputError: no vote is on a file that is there now, and what `read_log`, `read_rankings`, `labels_of`,
            `read_references` and `labelled_set.build` refuse.
    """
    file = locate(path)
    folder = os.path.normpath(os.path.join(file.parent.path, image_folder or "."))
    if _is_log(file):
        history = read_log(file.path)
        votes, rejected, notes = history.votes, [], list(history.notes)
    else:
        found = read_rankings(file.path, lambda name: name if os.path.isfile(os.path.join(folder, name)) else None)
        votes, notes = found.votes, []
        rejected = [LabelRow(file.name, file.uri, None, "", problem=reject.reason) for reject in found.rejected]
    current = current_votes(votes, folder)
    current.require_some(folder, "target.image_folder")
    rated = {image for vote in current.votes for image in vote.images}
    changed = [image for image in current.changed if image not in rated]
    again = [image for image in current.changed if image in rated]
    if again:
        notes.append(f"{len(again)} images were rated again after a change, such as {again[0]}; earlier votes left out")
    for images, problem in (
        (current.gone, "image not found"),
        (current.unreadable, "image cannot be read"),
        (changed, "not the file that was rated"),
    ):
        rejected += [LabelRow(file.name, os.path.join(folder, image), None, "", problem=problem) for image in images]
    reference_of = None if references is None else read_references(os.path.join(file.parent.path, references))
    labels = labels_of(current.votes, method, reference_of)
    has_grades = labels.score == "mos" and any(vote.kind == "grade" for vote in current.votes)
    if has_grades and score_range is None:
        score_range = _scale_of_grades([row.mos for row in labels.rows])
    if score_range is not None:
        score_range = replace(score_range, higher_is_better=labels.score == "mos")
    rows = _label_rows(labels, file, folder, use_weights=use_weights, reference_of=reference_of)
    raters = len({vote.rater for vote in current.votes})
    notes += [f"{len(labels.rows)} labels from {len(current.votes)} votes of {raters} raters", *labels.notes]
    if reference_of is None:
        rows, equal = join_equal_files(rows)
        notes += equal
    return build(
        "votes",
        file.parent.uri,
        [*rows, *rejected],
        score_range,
        max_reject_fraction,
        higher_is_better=labels.score == "mos",
        notes=notes,
    )


def _label_rows(
    labels: Labels, file: Location, folder: str, *, use_weights: bool, reference_of: Mapping[str, str] | None
) -> list[LabelRow]:
    weight_N = weights_of(labels.rows) if use_weights else None
    ordered: list[tuple[ImageLabel, float | None]] = [
        (row, None if weight_N is None else float(weight_N[i])) for i, row in enumerate(labels.rows)
    ]
    rows = []
    for row, weight in sorted(ordered, key=lambda one: one[0].image):
        path = os.path.abspath(os.path.join(folder, row.image))
        reference = relative(path, file.parent.uri) if reference_of is None else reference_of[row.image]
        rows.append(LabelRow(f"{file.name}, votes for {row.image}", path, row.mos, reference, weight=weight))
    return rows


def _scale_of_grades(scores: Sequence[float]) -> ScoreRange:
    """From 1 to 5, and further where the rater model, or pairs on the scale of grades, go beyond."""
    return ScoreRange(mos_min=min(WORST_GRADE, *scores), mos_max=max(BEST_GRADE, *scores))


def _only_log(folder: Location) -> Location | None:
    try:
        return find_label_file(folder)
    except InputError:
        return None  # of several tables, or none, the loader of tables says what is wrong


def _is_log(file: Location) -> bool:
    if not file.name.lower().endswith((".jsonl", ".ndjson", ".json")):
        return False
    with open(file.path, "rb") as stream:
        first = stream.read(_FIRST_BYTES).lstrip().partition(b"\n")[0]
    try:
        entry = json.loads(first)
    except ValueError:
        return False
    return isinstance(entry, dict) and {"entry", "id", "rater"} <= set(entry)


def _is_rankings(file: Location) -> bool:
    columns = open_table(file).columns
    return set(COLUMNS) <= set(columns) and not set(SCORE_NAMES) & {name.casefold() for name in columns}
