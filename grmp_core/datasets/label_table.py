"""Any labelled folder: a table (CSV, TSV, Parquet, JSON lines, Excel) with one row per image."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from grmp_core.datasets.difference_scores import direction_of, weighted_by_deviation
from grmp_core.datasets.image_names import ImageNames
from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, build, relative
from grmp_core.datasets.tables import READABLE_SUFFIXES, TABLE_SUFFIXES, LabelTable, Row, open_table, with_points
from grmp_core.datasets.usual_names import IMAGE_NAMES, SCORE_NAMES, WEIGHT_NAME, recognize
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location, locate


def load_table(
    path: str,
    max_reject_fraction: float,
    *,
    image_column: str | None = None,
    score_column: str | None = None,
    reference_column: str | None = None,
    weight_column: str | None = None,
    score_range: ScoreRange | None = None,
    higher_is_better: bool | None = None,
    image_folder: str | None = None,
    deviation_column: str | None = None,
    votes: str | None = None,
) -> LabelledSet:
    """Load a table, or a folder that holds exactly one; `tables` says in which forms.

    `path` may be on an object store (s3://…). Columns without a name are recognized by `usual_names`. Image paths are
    absolute (a URI there), or relative to `image_folder`, which is itself relative to the label file's folder (null:
    that folder). `ImageNames` says which names stand for a file that is spelled differently; `notes` of the set counts
    them. Without `reference_column` every image is its own reference, except that local files with equal bytes share
    one, so that no split has the same photo on both sides. Without `weight_column` a column called weight is taken; an
    empty text takes none. `deviation_column` has the standard deviation of the votes for an image, `votes` their number
    (a column, or one number for all): labels then count by `weighted_by_deviation`.

    Raises:
        InputError: no label file, several of them, a missing column, a column of difference scores whose direction is
            not known (`direction_of`), deviations without votes, or with weights beside them, no such image folder, or
            what `labelled_set.build` refuses.
    """
    label_file = find_label_file(locate(path))
    root = label_file.parent
    certainty = _columns_of_certainty(deviation_column, votes, weight_column)
    named = [name for name in (image_column, score_column, reference_column, weight_column, *certainty) if name]
    table = open_table(label_file, needed=named)
    image_column, score_column, notes = _chosen_columns(table, image_column, score_column)
    if weight_column is None and not deviation_column and WEIGHT_NAME in table.columns:
        weight_column = WEIGHT_NAME
    if weight_column:
        notes.append(f"labels count in training by the column {weight_column!r}")
    columns = [image_column, score_column, *(name for name in (reference_column, weight_column) if name), *certainty]
    images = ImageNames(_find_image_folder(root, image_folder))
    read = list(table.rows(columns))
    rows, comma = _rows_of(read, root, images, label_file, bool(reference_column), bool(weight_column))
    higher_is_better, told = direction_of(
        table.uri, score_column, rows, higher_is_better, with_references=bool(reference_column)
    )
    notes += told
    if score_range is not None:
        score_range = replace(score_range, higher_is_better=higher_is_better)
    if deviation_column:
        deviations, _ = with_points([values[-len(certainty)] for _, values in read], label_file.name)
        counts = [values[-1] if len(certainty) == 2 else votes for _, values in read]
        rows = weighted_by_deviation(rows, deviations, counts)
        notes.append(f"labels count in training by their certainty, from {deviation_column!r} and {votes} votes")
    usable = [row for row in rows if not row.problem]
    if not any(images.exists(row.image_path) for row in usable):
        _hint_at_subfolder(root, images, usable)
    notes += [comma] if comma else []
    notes += images.notes
    if reference_column is None and images.folder.is_local:
        rows, equal = join_equal_files(rows)
        notes += equal
    elif reference_column is None:
        notes.append("images of an object store are not compared: equal files count as different references")
    return build(
        "table",
        root.uri,
        rows,
        score_range,
        max_reject_fraction,
        higher_is_better=higher_is_better,
        notes=notes,
        exists=images.exists,
    )


def _columns_of_certainty(deviation: str | None, votes: str | None, weight: str | None) -> list[str]:
    """The columns that have the standard deviation and, where that is no number for all, how many have voted."""
    if not deviation and not votes:
        return []
    if not deviation or not votes:
        raise InputError(
            "a label is as certain as the standard deviation of its votes and their number say: set both "
            "target.deviation_column and target.votes (a column, or one number for all)"
        )
    if weight:
        raise InputError(
            f"target.weight_column {weight!r} and target.deviation_column {deviation!r} both weigh the labels; leave "
            "one out"
        )
    return [deviation] if votes.isdecimal() else [deviation, votes]


def _chosen_columns(
    table: LabelTable, image_column: str | None, score_column: str | None
) -> tuple[str, str, list[str]]:
    """Image and score column, and what is to be said of the table."""
    image = image_column or recognize(table.columns, IMAGE_NAMES, table.uri, "image", "target.image_column")
    score = score_column or recognize(table.columns, SCORE_NAMES, table.uri, "score", "target.score_column")
    notes = list(table.notes)
    if (image, score) not in (("image", "mos"), (image_column, score_column)):
        notes.append(f"{os.path.basename(table.uri)}: images from the column {image!r}, scores from {score!r}")
    return image, score, notes


def find_label_file(location: Location) -> Location:
    """The table at a place: itself, or the only one of a folder. InputError where there is none, or several."""
    is_label_file = location.name.lower().endswith(READABLE_SUFFIXES)
    is_folder = os.path.isdir(location.path) if location.is_local else not is_label_file
    if location.is_local and not os.path.exists(location.path):
        raise InputError(f"{location.uri}: no such label file or folder")
    if not is_folder:
        if not is_label_file:
            raise InputError(f"{location.uri}: labels must be one of {', '.join(READABLE_SUFFIXES)}")
        return location
    files = [file for file in location.list() if file.name.lower().endswith(TABLE_SUFFIXES)]
    if len(files) != 1:
        several = f"several label files, name one of {', '.join(file.name for file in files)}"
        problem = several if files else "a folder without labels"
        kinds = ", ".join(TABLE_SUFFIXES)
        raise InputError(
            f"{location.uri}: {problem}; labels are a table ({kinds}) with an image and a score column; a published "
            "set needs its name, too, as in target.dataset=livec"
        )
    return files[0]


def _find_image_folder(root: Location, image_folder: str | None) -> Location:
    if image_folder is None:
        return root
    if "://" in image_folder:
        return locate(image_folder)
    folder = root.at(os.path.normpath(os.path.join(root.path, image_folder)))
    if folder.is_local and not os.path.isdir(folder.path):
        raise InputError(f"image_folder {folder.path}: no such folder; give it relative to the labels in {root.uri}")
    return folder


def _hint_at_subfolder(root: Location, images: ImageNames, rows: list[LabelRow]) -> None:
    """InputError when no image is where the names say, but the first one is in a folder beside the label file or beside
    the label file's folder."""
    if not rows or not root.is_local:
        return  # of an object store the listing of every folder would take its time
    name = os.path.basename(rows[0].image_path)
    for folder in sorted(
        [*glob.glob(f"{glob.escape(root.path)}/*/"), *glob.glob(f"{glob.escape(root.parent.path)}/*/")]
    ):
        if os.path.isfile(os.path.join(folder, name)):
            where = os.path.relpath(folder, root.path)
            raise InputError(
                f"none of the {len(rows)} images is in {images.folder.path}, but {name} is in {where}: "
                f"set target.image_folder={where}"
            )


def _rows_of(
    read: Sequence[Row], root: Location, images: ImageNames, label_file: Location, has_reference: bool, has_weight: bool
) -> tuple[list[LabelRow], str | None]:
    """Rows of a table whose values are image, score, the reference and the weight where there are such, and others; and
    what is to be said of the scores."""
    scores, comma = with_points([values[1] for _, values in read], label_file.name)
    rows = []
    for (where, values), score in zip(read, scores, strict=True):
        row = _to_row(where, values[0], score, values[2:3] if has_reference else (), root, images, label_file.uri)
        weight = values[2 + has_reference] if has_weight else None
        rows.append(replace(row, weight="" if has_weight and weight is None else weight))
    return rows, comma


def _to_row(
    where: str,
    image: object,
    score: object,
    reference: Sequence[object],
    root: Location,
    images: ImageNames,
    label_file: str,
) -> LabelRow:
    if not isinstance(image, str) or not image:
        return LabelRow(where, label_file, score, "", problem=f"the image name is {image!r}; it must be a path")
    image_path = images.find(image)
    if reference and (reference[0] is None or str(reference[0]) == ""):
        problem = "the reference is empty; name one, or load without a reference column"
        return LabelRow(where, image_path, score, "", problem=problem)
    return LabelRow(where, image_path, score, str(reference[0]) if reference else relative(image_path, root.uri))


def join_equal_files(rows: list[LabelRow]) -> tuple[list[LabelRow], list[str]]:
    """Rows, of which files with the same bytes share one reference; and what is to be said of them."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in {row.image_path for row in rows if os.path.isfile(row.image_path)}:
        by_size[os.path.getsize(path)].append(path)
    by_content: dict[str, list[str]] = defaultdict(list)
    for path in (path for paths in by_size.values() if len(paths) > 1 for path in paths):
        try:
            with open(path, "rb") as stream:
                by_content[hashlib.file_digest(stream, "sha256").hexdigest()].append(path)
        except OSError:
            continue  # decoding lists it among the images that cannot be read
    reference_of = {row.image_path: row.reference_id for row in rows}
    shared = {path: reference_of[min(paths)] for paths in by_content.values() if len(paths) > 1 for path in paths}
    joined = [replace(row, reference_id=shared.get(row.image_path, row.reference_id)) for row in rows]
    notes = [f"{len(shared)} files have the same bytes as another one; each such group is one reference"]
    return joined, notes if shared else []
