"""The labelled target, encoded once with Ray Data: what every adaptation and every trial shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from grmp_core.confidence.unlike import has_domain
from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import ImageError, InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.imaging.decoding import decode_image, image_bytes, image_id
from grmp_core.imaging.views import scoring_views, training_views, whole_grid
from grmp_core.inspection.leaks import training_hashes
from grmp_core.inspection.near_duplicates import hash_of
from grmp_core.learning.few_shot import LabelledViews, prepare_views
from grmp_core.model.bundle import Bundle
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import bad_rows, check_leaks, check_rejects
from pipelines.few_shot.starting_model import compute_device, process_model


@dataclass(frozen=True)
class EncodedTarget:
    """Labels, and everything about the images that no trial changes. Row i of all of them is one image."""

    image_path: tuple[str, ...]
    image_ids: tuple[str, ...]
    reference_ids: tuple[str, ...]
    mos: np.ndarray
    quality: np.ndarray
    arrays: dict[str, np.ndarray]
    """train_tokens (N, V, T, D), teacher_logits (N, V, S), score_tokens (N, G, T, D), bf16 as int16; statistics (N, F)
    float32."""
    unreadable: tuple[dict[str, str], ...]
    """Path and reason of the images that are left out."""
    protocol: Protocol
    weights: np.ndarray | None = None
    """Of the labels in training; null where all count alike."""

    def views(self, rows: np.ndarray, dtype: torch.dtype, device: torch.device) -> LabelledViews:
        """The rows as the adaptation wants them."""
        return LabelledViews(
            _tensor(self.arrays["train_tokens"][rows], dtype).to(device),
            _tensor(self.arrays["teacher_logits"][rows], torch.float32).to(device),
            _tensor(self.arrays["score_tokens"][rows], dtype).to(device),
            torch.from_numpy(self.quality[rows].astype(np.float32)).to(device),
            torch.from_numpy(self.arrays["statistics"][rows]),
            tuple(self.reference_ids[i] for i in rows),
            None if self.weights is None else torch.from_numpy(self.weights[rows].astype(np.float32)).to(device),
        )


def encode_target(
    config: Config, target: LabelledSet, start: Bundle, protocol: Protocol, gpus_per_worker: float = 0
) -> EncodedTarget:
    """Decode every image and run the frozen part of the model over its views, on all CPUs or GPUs of the cluster.

    Unreadable images are left out and listed. InputError as of `check_rejects` and `check_leaks`.
    """
    columns = target.table.to_pydict()
    rows = [{"row": i, "path": path, "quality": columns["quality"][i]} for i, path in enumerate(columns["image_path"])]
    resources = ray.cluster_resources()
    pool = int(resources["GPU"] / gpus_per_worker) if gpus_per_worker else int(resources["CPU"])
    given = (config, start)
    how: dict[str, Any]
    if gpus_per_worker:  # a task would load the model anew: Ray ends a worker that has used a GPU
        how = {"fn": _Encoder, "fn_constructor_args": given, "compute": ActorPoolStrategy(size=pool)}
        how["num_gpus"] = gpus_per_worker
    else:  # workers of tasks stay, with all that they have imported, for what comes next
        how = {"fn": _encode_batch, "fn_args": given, "compute": TaskPoolStrategy(size=pool)}
    few = min(len(rows), 16 * pool)  # small blocks, so that all workers end at about the same time
    encoded = ray.data.from_items(rows, override_num_blocks=few).map_batches(**how, batch_size=16).iter_rows()
    kept = sorted(encoded, key=lambda row: row["row"])
    good = [row for row in kept if not row["error"]]
    rejected = tuple({"path": row["path"], "reason": row["error"]} for row in kept if row["error"])
    check_rejects(config.target, len(target), rejected, bad_rows(target))
    if not good:
        raise InputError(f"none of the {len(kept)} target images can be used (first: {rejected[0]['reason']})")
    order = [row["row"] for row in good]
    protocol = protocol.take(order)
    hashes = np.array([int(row["perceptual_hash"], 16) for row in good], dtype=np.uint64)
    check_leaks(config.target, config.backbone, [row["path"] for row in good], hashes, protocol.splits.takes_part)
    return EncodedTarget(
        tuple(row["path"] for row in good),
        tuple(row["image_id"] for row in good),
        tuple(columns["reference_id"][i] for i in order),
        np.array([columns["mos"][i] for i in order]),
        np.array([columns["quality"][i] for i in order]),
        {name: np.stack([row[name] for row in good]) for name in _ARRAYS},
        rejected,
        protocol,
        None if target.weights is None else target.weights[order],
    )


_ARRAYS = ("train_tokens", "teacher_logits", "score_tokens", "statistics")
_ENCODED = ("image_id", "perceptual_hash", *_ARRAYS)


def _encode_batch(batch: dict[str, np.ndarray], config: Config, start: Bundle) -> dict[str, Any]:
    return _Encoder(config, start)(batch)


class _Encoder:
    """Makes of rows with a path what an `EncodedTarget` holds of them."""

    def __init__(self, config: Config, start: Bundle) -> None:
        torch.set_num_threads(1)
        self.config = config
        self.start = start.parameters
        self.model = process_model(self.config, start, compute_device(self.config.sweep.gpus_per_trial))
        self.deep = has_domain(config.backbone.name, start.backbone_sha256)
        self.with_hashes = training_hashes(config.backbone.name, config.backbone.checkpoint) is not None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        output: dict[str, list[Any]] = {name: [] for name in ("row", "path", "error", *_ENCODED)}
        for row, path, quality in zip(batch["row"], batch["path"], batch["quality"], strict=True):
            output["row"].append(int(row))
            output["path"].append(str(path))
            try:
                encoded = self._encode(str(path), float(quality))
            except ImageError as error:
                output["error"].append(error.reason)
                encoded = None
            else:
                output["error"].append("")
            for name in _ENCODED:
                output[name].append(None if encoded is None else encoded[name])
        return output

    def _encode(self, path: str, quality: float) -> dict[str, Any]:
        data = image_bytes(path)
        image = decode_image(data, self.config.images)
        size_px = self.model.image_size_px
        train = training_views(image, self.config.views, size_px, self.config.seed, path.rsplit("/", 1)[-1])
        score = whole_grid(scoring_views(image, self.config.views, size_px), self.config.views)
        given = (train[None], score[None], np.array([quality]), [path])
        views = prepare_views(self.model, self.start, *given, deep=self.deep)
        return {
            "image_id": image_id(data),
            "perceptual_hash": f"{hash_of(image) if self.with_hashes else 0:x}",  # no integer: Arrow's have a sign
            "train_tokens": _array(views.train_tokens_NVTD[0]),
            "teacher_logits": _array(views.teacher_logits_NVS[0]),
            "score_tokens": _array(views.score_tokens_NGTD[0]),
            "statistics": views.statistics_NF[0].cpu().numpy(),
        }


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.view(torch.bfloat16) if array.dtype == np.int16 else tensor.to(dtype)
