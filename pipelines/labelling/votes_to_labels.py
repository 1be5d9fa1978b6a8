"""`grmp rate --export` and `--import`: labels out of a vote log, and votes of Label Studio into it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import id_of_file
from grmp_core.ratings.differences import read_references
from grmp_core.ratings.label_studio import read_label_studio
from grmp_core.ratings.label_table import RaterSummary, labels_of, to_csv
from grmp_core.ratings.rankings import read_rankings
from grmp_core.ratings.rated_set import current_votes
from grmp_core.ratings.vote_log import VoteLog, read_log
from grmp_core.storage import locate
from pipelines.configuration.labels import RateConfig
from pipelines.labelling.image_pool import ImagePool
from pipelines.labelling.own_files import log_path
from pipelines.labelling.second_import import additions
from pipelines.runtime.console import table


@dataclass(frozen=True, kw_only=True)
class Export:
    """Labels that were written."""

    table: str
    images: int
    gone: tuple[str, ...]
    """Images with votes whose files are gone; they have no row."""
    unreadable: tuple[str, ...]
    """Images with votes whose files cannot be read; they have no row."""
    changed: tuple[str, ...]
    """Images with votes on other files than the present ones; those votes do not count."""
    raters: tuple[RaterSummary, ...]
    notes: tuple[str, ...]

    def as_text(self) -> str:
        lines = [table([asdict(rater) for rater in self.raters]), "", *self.notes]
        lines += [f"gone, left out: {path}" for path in self.gone]
        lines += [f"cannot be read, left out: {path}" for path in self.unreadable]
        lines += [f"file changed, earlier votes left out: {path}" for path in self.changed]
        return "\n".join([*lines, f"{self.images} labels in {self.table}"])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Votes that were added."""

    votes: str
    added: int
    known: int
    """Votes of the export that the log had already."""
    corrected: int
    """Votes that the log had with another value; that one is taken back."""
    rejected: tuple[str, ...]

    def as_text(self) -> str:
        lines = [f"left out: {reason}" for reason in self.rejected]
        text = f"{self.added} votes added to {self.votes}, {self.known} were there, {self.corrected} corrected"
        return "\n".join([*lines, text])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def export_labels(config: RateConfig) -> Export:
    """Write the labels table of a folder's votes, also while the page is served.

    Image paths are as seen from the table. Raises InputError as `read_log`, `labels_of` and `read_references` do, when
    no vote is on a file that is there now, and when the table cannot be written.
    """
    log, output = log_path(config), config.export or ""
    if not output.endswith(".csv"):
        raise InputError(f"rate.export {output}: name a .csv file")
    history = read_log(log)
    found = current_votes(history.votes, config.folder or "")
    found.require_some(config.folder or "", "rate.folder")
    references = None if config.references is None else read_references(config.references)
    labels = labels_of(found.votes, config.labels, references)
    folder = os.path.dirname(os.path.abspath(output))
    rows = [
        replace(row, image=os.path.relpath(os.path.join(config.folder or "", row.image), folder)) for row in labels.rows
    ]
    text = to_csv(rows, labels.score)
    locate(os.path.abspath(output)).write_bytes(text.encode("utf-8", "surrogateescape"))
    return Export(
        table=output,
        images=len(rows),
        gone=found.gone,
        unreadable=found.unreadable,
        changed=found.changed,
        raters=labels.raters,
        notes=(*history.notes, *labels.notes),
    )


def import_votes(config: RateConfig) -> Imported:
    """Add the votes of a Label Studio export (.json), or of a table of rankings, to a folder's log; those that are
    there are not added again, and of those with another value the earlier one is taken back.

    Raises InputError as `read_label_studio`, `read_rankings` and `VoteLog` do, and when the log cannot be written.
    """
    path = log_path(config)
    pool = ImagePool(config.folder or "", own_files=(path,))
    pool.scan()
    paths = {pool.path(key) or "" for key in pool.order}
    by_name: dict[str, list[str]] = {}
    for image in paths:
        by_name.setdefault(os.path.basename(image), []).append(image)

    def find(name: str) -> str | None:
        images = [name] if name in paths else by_name.get(name, [])
        if len(images) > 1:
            raise InputError(f"{len(images)} images of the folder are called {name}")
        return images[0] if images else None

    file = config.import_file or ""
    content = read_label_studio(file, find) if file.lower().endswith(".json") else read_rankings(file, find)
    log = VoteLog(path)
    try:
        found = additions(content.votes, log.history)
        images = dict.fromkeys(image for vote in found.new for image in vote.images)
        ids = {image: id_of_file(os.path.join(pool.folder, image)) for image in images}
        with_ids = [replace(vote, image_ids=tuple(ids[image] for image in vote.images)) for vote in found.new]
        new = [vote for vote in with_ids if None not in vote.image_ids]
        log.append([*new, *found.corrections])
    except OSError as error:
        raise InputError(f"{path}: votes could not be written: {error.strerror}") from error
    finally:
        log.close()
    reasons = [reject.reason for reject in content.rejected]
    reasons += [f"{image} cannot be read; its votes are not taken" for image in images if ids[image] is None]
    return Imported(
        votes=path,
        added=len(new),
        known=found.known,
        corrected=found.corrected,
        rejected=(*reasons, *found.twice),
    )
