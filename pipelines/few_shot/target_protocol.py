"""The protocol of a configuration on its labelled target."""

from __future__ import annotations

from collections.abc import Sequence

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.datasets.tables import open_table
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
    """The scene of every image, from a table with the columns image (file name) and scene.

    InputError for a table that cannot be read or lacks them, an image with two scenes, or images without one.
    """
    scene_of: dict[str, str] = {}
    for where, (image, scene) in open_table(locate(path)).rows(("image", "scene")):
        if scene and scene_of.setdefault(str(image), str(scene)) != str(scene):
            raise InputError(f"protocol.scenes: {where} gives another scene to {image}; keep one row an image")
    names = [image.rsplit("/", 1)[-1] for image in image_paths]
    missing = [name for name in names if name not in scene_of]
    if missing:
        raise InputError(
            f"protocol.scenes {path} has no scene for {len(missing)} of {len(names)} images, such as {missing[0]}"
        )
    return tuple(scene_of[name] for name in names)
