"""The protocol of a configuration on its labelled target."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.few_shot.target_splits import split_table


def target_protocol(config: Config, target: LabelledSet) -> Protocol:
    """Test parts and label draws of the target's images. InputError as of `split_table` and `read_scenes`."""
    path = config.protocol.scenes
    return Protocol(
        splits=split_table(config.sweep, target),
        quality_N=target.quality,
        scenes=None if path is None else read_scenes(path, target.image_paths),
        config=config.protocol,
    )


def read_scenes(path: str, image_paths: Sequence[str]) -> tuple[str, ...]:
    """The scene of every image, from a CSV file with the columns image (file name) and scene.

    InputError for a file without them, an image with two scenes, or images without one.
    """
    file = locate(path)
    if not file.exists():
        raise InputError(f"protocol.scenes {file.uri} does not exist; correct the path")
    rows = list(csv.DictReader(file.read_bytes().decode("utf-8-sig").splitlines()))
    if not rows or not {"image", "scene"} <= set(rows[0]):
        raise InputError(f"protocol.scenes {file.uri}: the columns image and scene are needed in its first line")
    scene_of: dict[str, str] = {}
    for row in rows:
        if scene_of.setdefault(row["image"], row["scene"]) != row["scene"]:
            raise InputError(f"protocol.scenes {file.uri} gives two scenes to {row['image']}; keep one row an image")
    names = [image.rsplit("/", 1)[-1] for image in image_paths]
    missing = [name for name in names if not scene_of.get(name)]
    if missing:
        raise InputError(
            f"protocol.scenes {file.uri} has no scene for {len(missing)} of {len(names)} images, such as {missing[0]}"
        )
    return tuple(scene_of[name] for name in names)
