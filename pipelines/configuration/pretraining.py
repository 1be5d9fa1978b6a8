"""Sections of what happens before any label: distortion tasks, their contact sheet, pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from grmp_core.errors import InputError
from grmp_core.settings import PathText, Settings, Share
from grmp_core.tasks.distortion_tasks import Labels


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig(Settings):
    """Distortion tasks to make."""

    source: Literal["procedural", "photos", "kadis700k", "kadid10k", "tid2013"] = "procedural"
    """Pictures to distort: drawn by this package, the photos of `path`, or the originals of KADIS-700k as downloaded to
    `path`. `kadid10k` and `tid2013`: the set's own distorted pictures and human scores become the tasks."""
    path: PathText | None = None
    """Folder, glob, or s3://… folder of photos; the folder of a published set."""
    references: Annotated[int, Ge(0)] = 40
    """Pictures to use: how many to draw, or at most how many photos or references of a set (0: all of them)."""
    tasks: tuple[str, ...] = ()
    """Distortion types by name; empty: all of KADID-10k's, or all of the set's; [all]: those of TID2013, too.
    Several joined by `-`, such as darken-jpeg, are one task that applies them one after the other."""
    compositions: Annotated[int, Ge(0)] = 0
    """Further tasks, each a drawn composition of two to four types."""
    query_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the references that only query batches show. Published: of the images, drawn anew every epoch."""
    short_side_px: Annotated[int, Ge(0)] = 384
    """Larger references are shrunk to this short side, in pixels, before they are distorted (KADID-10k's); 0: never.
    Views are cut at that size and never flipped. Published: support pictures squeezed to 256 x 256, flipped by chance
    and cropped, query pictures squeezed to 224 x 224."""
    labels: Labels = "picture"
    """`mean`: a type and level has one label, KADID-10k's mean score. `picture`: moved by how visible the damage is on
    the picture at hand. `overall`: that, and the quality of the picture before, as the backbone scores it without a
    label. Published sets keep their own scores."""
    references_per_block: Annotated[int, Ge(1)] = 4
    """References a Ray task works on, and the grain at which an interrupted run goes on."""
    max_reject_fraction: Share = 0.1
    """Share of the pictures and label rows that may be left out (missing, unreadable, no usable score); with more the
    run is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source != "procedural" and not self.path:
            what = "the photos" if self.source == "photos" else "the download"
            raise InputError(f"synthesize.source {self.source} needs synthesize.path: give the folder of {what}")


@dataclass(frozen=True, kw_only=True)
class PreviewConfig(Settings):
    """Contact sheet of the distortion tasks."""

    output: PathText | None = None
    """Contact sheet of all tasks and levels, an .html or .png file."""
    image: PathText | None = None
    """Photo that the contact sheet shows; null: the first of `synthesize.source`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and not self.output.endswith((".html", ".png")):
            raise InputError(f"preview.output {self.output}: name a file that ends in .html or .png")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Settings):
    """How pre-training is spread over a cluster."""

    episodes: Literal["store", "stream"] = "store"
    """Read tasks from the store that `grmp synthesize` wrote, or make them on the fly with Ray Data."""
    workers: Annotated[int, Ge(0)] = 1
    """Ray Train workers; 0: in this process. The result does not depend on it."""
    min_workers: Annotated[int, Ge(0)] = 0
    """Go on with as few as this when nodes die, and with more again when they come back; 0: always `workers`."""
    cpus_per_worker: Annotated[float, Gt(0)] = 1
    """CPUs of a worker, and its threads; with `workers: 0` the threads of this process."""
    gpus_per_worker: Annotated[float, Ge(0)] = 0
    """GPUs of a worker; 0: it computes on CPUs."""
    checkpoint_every: Annotated[int, Ge(1)] = 10
    """Outer steps between two checkpoints."""
    max_failures: Annotated[int, Ge(0)] = 3
    """Worker failures that are survived by going back to the last checkpoint; and minutes, about, that a run waits for
    room for its workers after a node was lost. Raise it where an autoscaler takes long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_workers > self.workers:
            raise InputError(f"pretrain.min_workers {self.min_workers}: use 0 to pretrain.workers ({self.workers})")
        if self.min_workers and self.episodes == "stream":
            raise InputError(
                "pretrain.min_workers with pretrain.episodes stream: workers that grow into every CPU would leave "
                "none to make tasks; use episodes store, or min_workers 0"
            )
