"""Workers that encode the images of a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
import torch
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from grmp_core.confidence.domain import has_domain
from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import decode_image, image_bytes, image_id
from grmp_core.imaging.views import scoring_views, training_views, whole_grid
from grmp_core.inspection.near_duplicates import hash_of
from grmp_core.learning.labelled_views import Prefix, encode_views
from grmp_core.model.bundle import Bundle
from pipelines.configuration.schema import Config
from pipelines.few_shot.starting_model import compute_device, process_model
from pipelines.runtime.computing import prepare_to_compute


def encoded_rows(
    config: Config,
    start: Bundle,
    parts: Sequence[tuple[Prefix, bool]],
    paths: Sequence[str],
    gpus_per_worker: float,
    *,
    here: bool,
) -> Iterator[dict[str, Any]]:
    """Rows of `Encoder`, in any order; `here`: by this process, without Ray."""
    if here:
        encoder = Encoder(config, start, parts)
        for i, path in enumerate(paths):
            columns = encoder({"row": np.array([i]), "path": np.array([path])})
            yield {name: value for name, (value,) in columns.items()}
        return
    rows = [{"row": i, "path": path} for i, path in enumerate(paths)]
    resources = ray.cluster_resources()
    pool = int(resources["GPU"] / gpus_per_worker) if gpus_per_worker else int(resources["CPU"])
    given = (config, start, parts)
    how: dict[str, Any]
    if gpus_per_worker:  # a task would load the model anew: Ray ends a worker that has used a GPU
        how = {"fn": Encoder, "fn_constructor_args": given, "compute": ActorPoolStrategy(size=pool)}
        how["num_gpus"] = gpus_per_worker
    else:  # workers of tasks stay, with all that they have imported, for what comes next
        how = {"fn": _encode_batch, "fn_args": given, "compute": TaskPoolStrategy(size=pool)}
    few = min(len(rows), 16 * pool)  # small blocks, so that all workers end at about the same time
    yield from ray.data.from_items(rows, override_num_blocks=few).map_batches(**how, batch_size=16).iter_rows()


def _encode_batch(batch: dict[str, np.ndarray], *given: Any) -> dict[str, Any]:
    return Encoder(*given)(batch)


class Encoder:
    """Makes of rows with a path what a `TokenEntry` holds of them."""

    def __init__(self, config: Config, start: Bundle, parts: Sequence[tuple[Prefix, bool]]) -> None:
        """parts: prefixes, and whether their tokens are kept as float16."""
        prepare_to_compute()
        self.config, self.parts = config, parts
        self.model = process_model(self.config, start, compute_device(self.config.sweep.gpus_per_trial))
        self.deep = has_domain(config.backbone.name, start.backbone_sha256)
        tokens = [f"{name}_{i}" for i in range(len(parts)) for name in ("train_tokens", "score_tokens")]
        self.names = ("image_id", "perceptual_hash", "teacher_logits", "statistics", *tokens)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        output: dict[str, list[Any]] = {name: [] for name in ("row", "error", "transient", *self.names)}
        for row, path in zip(batch["row"], batch["path"], strict=True):
            output["row"].append(int(row))
            try:
                encoded = self._encode(str(path))
            except ImageError as error:
                output["error"].append(error.reason)
                output["transient"].append(error.transient)
                encoded = None
            else:
                output["error"].append("")
                output["transient"].append(False)
            for name in self.names:
                output[name].append(None if encoded is None else encoded[name])
        return output

    def _encode(self, path: str) -> dict[str, Any]:
        data = image_bytes(path)
        image = decode_image(data, self.config.images)
        size_px = self.model.image_size_px
        train = training_views(image, self.config.views, size_px, self.config.seed, file_name(path))
        score = whole_grid(scoring_views(image, self.config.views, size_px), self.config.views)
        prefixes = [prefix for prefix, _ in self.parts]
        encoded = encode_views(self.model, prefixes, train[None], score[None], deep=self.deep)
        tokens = {}
        for i, (_, half) in enumerate(self.parts):
            tokens[f"train_tokens_{i}"] = array_of(encoded.train_tokens_NVTD[i][0], half)
            tokens[f"score_tokens_{i}"] = array_of(encoded.score_tokens_NGTD[i][0], half)
        return {
            "image_id": image_id(data),
            "perceptual_hash": f"{hash_of(image):x}",  # no integer: Arrow's have a sign
            "teacher_logits": array_of(encoded.teacher_logits_NVS[0]),
            "statistics": encoded.statistics_NF[0].cpu().numpy(),
            **tokens,
        }


def file_name(path: str) -> str:
    """Training views are drawn by it."""
    return path.rsplit("/", 1)[-1]


def array_of(tensor: torch.Tensor, half: bool = False) -> np.ndarray:
    """A tensor as a file keeps it: bfloat16 as int16, anything as float16 where `half` says so."""
    tensor = (tensor.half() if half else tensor).detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
