"""`grmp next`: encode what is not encoded yet, pick, write the list."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from grmp_core.errors import InputError
from grmp_core.planning.label_gain import LabelGain
from grmp_core.ratings.label_table import labels_of
from grmp_core.ratings.rated_set import current_votes
from grmp_core.ratings.vote_log import read_log
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.labelling.image_pool import ImagePool
from pipelines.labelling.own_files import features_path, list_path, log_path
from pipelines.planning.encoder import Encoder, encode_files
from pipelines.planning.feature_cache import FeatureCache
from pipelines.planning.image_plan import plan_images
from pipelines.runtime.console import say
from pipelines.runtime.progress import Progress


@dataclass(frozen=True, kw_only=True)
class NextImages:
    """Result of `grmp next`."""

    images: tuple[str, ...]
    """As seen from the folder, best first."""
    list_file: str
    pool: int
    """Encoded images that can be rated."""
    labelled: int
    gain: LabelGain | None
    is_enough: bool
    advice: str
    unusable: dict[str, str]
    """Path of each image that cannot be rated, and why."""
    notes: tuple[str, ...]

    def as_text(self) -> str:
        lines = [f"left out: {path}: {problem}" for path, problem in sorted(self.unusable.items())]
        lines += [*self.notes, *self.images, "", f"{len(self.images)} of {self.pool} images, in {self.list_file}"]
        return "\n".join([*lines, self.advice])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def name_next(config: Config) -> NextImages:
    """Name the images to rate next, and write them to a list.

    Raises:
        InputError: no folder or no image, what `read_log`, `labels_of` and `FeatureCache` refuse, another process is
            encoding and has nothing yet, or the list cannot be written.
    """
    votes_file = log_path(config.rate)
    list_file = list_path(config)
    pool = ImagePool(config.rate.folder or "", own_files=(votes_file, list_file))
    history = read_log(votes_file)
    pool.scan()
    if not len(pool):
        raise InputError(f"{pool.folder}: there is no image to rate; {pool.summary() or 'the folder is empty'}")
    current = current_votes(history.votes, pool.folder)
    rows = labels_of(current.votes, config.rate.labels).rows if current.votes else ()
    labels = {row.image: row.mos for row in rows}
    in_folder = [pool.path(key) or "" for key in pool.order]
    sampled = in_folder[: config.next.sample or None]
    rated = [path for path in in_folder if path in labels]
    gone = len(current.gone) + len(labels) - len(rated)
    wanted = list(dict.fromkeys([*rated, *sampled]))
    encoder = Encoder(config)
    cache = FeatureCache(features_path(config), encoder.fingerprint, encoder.width)
    notes = list(history.notes)
    try:
        found = []
        with Progress("next", len(wanted), "image") as progress:
            workers = len(os.sched_getaffinity(0))
            for image in encode_files(encoder, cache, pool.folder, wanted, workers):
                found.append(image)
                progress.to(len(found))
        usable = [image for image in found if not image.problem]
        if len(found) < len(wanted):
            notes.append(f"another grmp is encoding: {len(found)} of {len(wanted)} images so far")
        if not usable:
            raise InputError(f"{pool.folder}: no image can be used yet; {notes[-1] if notes else found[0].problem}")
        plan = plan_images(cache, usable, labels, config.next, seed=config.seed, count=config.next.count)
    finally:
        cache.close()
    if len(sampled) < len(in_folder):
        notes.append(f"picked from {len(sampled)} of {len(in_folder)} images, drawn at random (next.sample)")
    if gone:
        notes.append(f"{gone} rated images are gone and do not count")
    if current.unreadable:
        notes.append(f"{len(current.unreadable)} rated images cannot be read and do not count")
    if current.changed:
        notes.append(f"{len(current.changed)} rated images have changed since; votes on the earlier files do not count")
    if summary := pool.summary():
        say(f"next: {summary}")
    text = "".join(f"{path}\n" for path in plan.paths)
    locate(os.path.abspath(list_file)).write_bytes(text.encode("utf-8", "surrogateescape"))
    return NextImages(
        images=plan.paths,
        list_file=list_file,
        pool=len(usable),
        labelled=plan.labelled,
        gain=plan.gain,
        is_enough=plan.is_enough,
        advice=plan.advice(),
        unusable={image.path: image.problem for image in found if image.problem},
        notes=tuple(notes),
    )
