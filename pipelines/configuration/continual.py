"""Section of a stream of labelled sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from grmp_core.settings import PathText, Settings

StreamMethod = Literal["own_norms", "replay_free", "finetune", "joint"]


@dataclass(frozen=True, kw_only=True)
class ContinualConfig(Settings):
    """Labelled sets that arrive one after the other."""

    sets: tuple[PathText, ...] = ()
    """A configuration file for each set, in the order in which they arrive; only its section target is read, and the
    file's name without its ending names the set. A later run may add sets at the end."""
    method: StreamMethod = "own_norms"
    """`own_norms`: every set has norms and a head of its own, and a gate weighs them for each image (after TSN-IQA).
    `replay_free`: one model that learns the order of the new set's images and keeps the order that the model before
    gave them (after continual BIQA). `finetune`: one model that learns from each set in turn; it forgets. `joint`: a
    model from all sets so far, which needs the images of all of them."""
    start: PathText | None = None
    """Bundle of pre-trained prompts; null: <output>/pretrain/bundle."""
    centres: Annotated[int, Ge(1)] = 32
    """K-means centres that a set leaves for the gate; a set with fewer images leaves as many as it has images."""
    sharpness: Annotated[float, Ge(0)] = 32.0
    """Of the gate: a head's weight falls by a factor of e for every 1 / sharpness by which its nearest centre is
    farther. Features have length one, so distances are 0 to 2. 0: all heads weigh alike."""
