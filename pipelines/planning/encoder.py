"""An image in, its frozen features and its score without a label out: all that the planner knows of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import decode_image, image_bytes, image_id
from grmp_core.imaging.views import scoring_views, whole_grid
from grmp_core.model.backbone import dtype_of, load_backbone
from grmp_core.model.features import image_features
from grmp_core.model.zero_shot import zero_shot_quality
from pipelines.configuration.schema import Config
from pipelines.planning.feature_cache import CachedImage, FeatureCache
from pipelines.runtime.computing import prepare_to_compute
from pipelines.runtime.provenance import config_hash


class Encoder:
    """The frozen backbone of a configuration, on CPUs. InputError where it cannot be had."""

    def __init__(self, config: Config) -> None:
        prepare_to_compute()
        self._config = config
        self._backbone = load_backbone(config.backbone)
        self._backbone.clip.to(dtype_of(config.precision))
        given = (self._backbone.weights_sha256, config.backbone, config.views, config.images, config.precision)
        self.fingerprint = config_hash(*given, config.prompts.phrases)
        """Of everything that the features depend on."""
        blank = np.zeros((1, self._backbone.image_size_px, self._backbone.image_size_px, 3), dtype=np.uint8)
        self.width = image_features(self._backbone, [blank]).pooled_ND.shape[1]
        """Number of features."""

    def __call__(self, data: bytes) -> tuple[np.ndarray, float]:
        """-> features (D,) and quality in [0, 1], means over the views of scoring. ImageError as of decoding."""
        image = decode_image(data, self._config.images)
        views = whole_grid(scoring_views(image, self._config.views, self._backbone.image_size_px), self._config.views)
        features = image_features(self._backbone, [views])
        quality = zero_shot_quality(self._backbone, features.unit_NE, self._config.prompts.phrases)
        return features.pooled_ND.mean(axis=0), float(quality.mean())


def encode_files(
    encoder: Encoder, cache: FeatureCache, folder: str, paths: Iterable[str], workers: int
) -> Iterator[CachedImage]:
    """The images at `paths` of a folder as the cache has them, in their order; what it lacks is encoded.

    A file that cannot be used has a `problem`. Where another process writes the cache, what it lacks is left out.
    """
    todo = iter(paths)
    with ThreadPoolExecutor(max_workers=workers) as threads:
        while batch := list(islice(todo, 4 * workers)):
            for found in threads.map(partial(_look_up, encoder, cache, folder), batch):
                if found is not None:
                    image, features_D, is_new = found
                    yield cache.add(image, features_D) if is_new else image


def _look_up(
    encoder: Encoder, cache: FeatureCache, folder: str, path: str
) -> tuple[CachedImage, np.ndarray | None, bool] | None:
    """-> the image, its features where they are new, and whether to keep it; null where the cache must not add it.

    A problem is kept where it is one of the file's content. Others may be over in the next run.
    """
    file = os.path.join(folder, path)
    empty = CachedImage(image_id="", row=None, quality=0.0, problem="", path=path, size=0, changed_ns=0)
    try:
        stat = os.stat(file)
    except OSError as error:
        return replace(empty, problem=f"gone ({error.strerror})"), None, False
    known = cache.of_file(path, stat.st_size, stat.st_mtime_ns)
    if known is not None or not cache.can_write:
        return None if known is None else (known, None, False)
    empty = replace(empty, size=stat.st_size, changed_ns=stat.st_mtime_ns)
    try:
        data = image_bytes(file)
        digest = image_id(data)
        same = cache.of_content(digest)
        if same is not None:
            image = replace(empty, image_id=digest, row=same.row, quality=same.quality, problem=same.problem)
            return image, None, True
        features_D, quality = encoder(data)
    except ImageError as error:
        return replace(empty, problem=error.reason), None, not error.transient
    except Exception as error:  # torch, OpenCV and NumPy have errors of their own; they cost this image only
        reason = f"cannot be decoded ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        return replace(empty, problem=reason), None, False
    return replace(empty, image_id=digest, quality=quality), features_D, True
