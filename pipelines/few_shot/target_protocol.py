"""The protocol of a configuration on its labelled target."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence

import numpy as np

from grmp_core.datasets.labelled_set import LabelledSet, relative
from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.storage import locate
from pipelines.configuration.schema import Config


def target_protocol(config: Config, target: LabelledSet, without: Collection[str] = ()) -> Protocol:
    """Test parts and label draws of the target's images.

    Args:
        without: images that cannot be read, as paths seen from the target's root.

    Raises:
        InputError: `protocol.scenes` cannot be read or lacks an image.
    """
    rows = zip(target.image_paths, target.reference_ids, target.quality.tolist(), strict=True)
    kept = [row for row in rows if relative(row[0], target.root) not in without]
    paths, references, quality = [list(column) for column in zip(*kept, strict=True)] if kept else [[], [], []]
    scenes = None if config.protocol.scenes is None else read_scenes(config.protocol.scenes, paths)
    return Protocol(config.protocol, config.sweep.test_fraction, references, np.array(quality), scenes)


def read_scenes(path: str, image_paths: Sequence[str]) -> list[str]:
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
    return [scene_of[name] for name in names]
