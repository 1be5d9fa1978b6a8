"""The labelled target, encoded once with Ray Data: what every adaptation and every trial shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from grmp_core import datasets
from grmp_core.adapt import LabelledViews, prepare_views
from grmp_core.backbone import load_backbone
from grmp_core.bundle import Bundle, check_backbone, read_bundle
from grmp_core.datasets import LabelledSet
from grmp_core.errors import InputError
from grmp_core.images import ImageError, image_bytes, image_id, read_image
from grmp_core.model import QualityModel
from grmp_core.storage import Location, locate
from grmp_core.views import scoring_views, training_views, whole_grid
from pipelines.config import Config, TargetConfig, as_dict, build
from pipelines.session import config_hash, say

_models: dict[tuple[str, torch.device], QualityModel] = {}
"""The one model of this process."""


@dataclass(frozen=True)
class EncodedTarget:
    """Labels, and everything about the images that no trial changes. Row i of all of them is one image."""

    image_path: tuple[str, ...]
    image_ids: tuple[str, ...]
    reference_ids: tuple[str, ...]
    mos: np.ndarray
    quality: np.ndarray
    arrays: dict[str, np.ndarray]
    """train_tokens (N, V, T, D), teacher_logits (N, V, S), score_tokens (N, G, T, D); bf16 as int16."""
    unreadable: tuple[dict[str, str], ...]
    """Path and reason of the images that are left out."""

    def views(self, rows: np.ndarray, dtype: torch.dtype, device: torch.device) -> LabelledViews:
        """The rows as the adaptation wants them."""
        return LabelledViews(
            _tensor(self.arrays["train_tokens"][rows], dtype).to(device),
            _tensor(self.arrays["teacher_logits"][rows], torch.float32).to(device),
            _tensor(self.arrays["score_tokens"][rows], dtype).to(device),
            torch.from_numpy(self.quality[rows].astype(np.float32)).to(device),
            tuple(self.reference_ids[i] for i in rows),
        )


def load_target(config: TargetConfig) -> LabelledSet:
    """The labelled set a configuration names. InputError as the loaders raise it."""
    if not config.path:
        raise InputError("target.path is not set: give the folder or file of the labelled images (target.dataset, too)")
    labelled = datasets.load(
        config.dataset,
        config.path,
        image_column=config.image_column,
        score_column=config.score_column,
        reference_column=config.reference_column,
        score_min=config.score_min,
        score_max=config.score_max,
        higher_is_better=config.higher_is_better,
        max_rejects=config.max_rejects,
        max_missing_fraction=config.max_missing_fraction,
    )
    for note in labelled.notes:
        say(f"target: {note}")
    return labelled


def encode_target(config: Config, target: LabelledSet, start: Bundle, gpus_per_worker: float = 0) -> EncodedTarget:
    """Decode every image and run the frozen part of the model over its views, on all CPUs or GPUs of the cluster.

    Unreadable images are left out and listed. InputError when they are more than target.max_rejects allows.
    """
    columns = target.table.to_pydict()
    rows = [{"row": i, "path": path, "quality": columns["quality"][i]} for i, path in enumerate(columns["image_path"])]
    resources = ray.cluster_resources()
    pool = int(resources["GPU"] / gpus_per_worker) if gpus_per_worker else int(resources["CPU"])
    given = (as_dict(config), start)
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
    check_rejects(config.target, target.table.num_rows, rejected)
    if not good:
        raise InputError(f"none of the {len(kept)} target images can be used (first: {rejected[0]['reason']})")
    order = [row["row"] for row in good]
    return EncodedTarget(
        tuple(row["path"] for row in good),
        tuple(row["image_id"] for row in good),
        tuple(columns["reference_id"][i] for i in order),
        np.array([columns["mos"][i] for i in order]),
        np.array([columns["quality"][i] for i in order]),
        {name: np.stack([row[name] for row in good]) for name in ("train_tokens", "teacher_logits", "score_tokens")},
        rejected,
    )


def check_adaptation(config: Config, start: Bundle) -> None:
    """InputError when the prompts belong to another backbone, or nothing would be learned: before workers start."""
    adapting_model(config, start, torch.device("cpu")).adaptable_parameters(start.parameters)


def adapting_model(config: Config, start: Bundle, device: torch.device) -> QualityModel:
    """The model that adapts, on `device`, from the backbone of `config`; it must be the one `start` was made with."""
    backbone = load_backbone(config.backbone)
    check_backbone(start, backbone, "of pre-training")
    model = QualityModel(
        backbone, start.prompts, precision=config.precision, seed=config.seed, trainable=config.adapt.trainable
    )
    model.put(start.parameters)
    return model.to(device)


def process_model(config: Config, start: Bundle, device: torch.device) -> QualityModel:
    """`adapting_model`, made once a process: nothing that uses it changes it, and Ray uses processes again."""
    prompts = {name: tensor.numpy().tobytes() for name, tensor in sorted(start.parameters.items())}
    made_of = config_hash(
        config.backbone,
        start.backbone_sha256,
        start.prompts,
        prompts,
        config.precision,
        config.seed,
        config.adapt.trainable,
    )
    key = (made_of, device)
    if key not in _models:
        _models.clear()
        _models[key] = adapting_model(config, start, device)
    return _models[key]


def initial_prompts(config: Config) -> Bundle:
    """The pre-trained prompts `<output>/pretrain/bundle`. InputError as of `read_prompts`, or when there are none."""
    place = locate(config.output) / "pretrain" / "bundle"
    if not (place / "bundle.json").exists():
        raise InputError(f"no pre-trained prompts at {place.uri}: run `grmp pretrain` with this output first")
    return read_prompts(config, place)


def read_prompts(config: Config, place: Location) -> Bundle:
    """Pre-trained prompts. InputError for an adapted model, and for prompts that know the target's scores."""
    start = read_bundle(place)
    if start.kind != "prompts":
        raise InputError(
            f"{place.uri} is an adapted model: a trial that starts from it has seen scores that it is to be tested on; "
            "give the bundle of grmp pretrain"
        )
    if start.provenance.get("source") == config.target.dataset:
        raise InputError(
            f"the prompts at {place.uri} were pre-trained on the scores of {config.target.dataset}, so no image of it "
            "is left to test on; choose another target.dataset, or another synthesize.source and output"
        )
    return start


def picture_of(path: str) -> bytes | str | ImageError:
    """Bytes of a remote file, or why there are none; a local path as it is, so that its header is looked at first."""
    if "://" not in path:
        return path
    try:
        return image_bytes(path)
    except ImageError as error:
        return error


def compute_device(gpus: float) -> torch.device:
    """The GPU that Ray assigned where one was asked for, else the CPU."""
    return torch.device("cuda" if gpus > 0 else "cpu")


def _encode_batch(batch: dict[str, np.ndarray], config: dict[str, Any], start: Bundle) -> dict[str, Any]:
    return _Encoder(config, start)(batch)


class _Encoder:
    """Makes of rows with a path what an `EncodedTarget` holds of them."""

    def __init__(self, config: dict[str, Any], start: Bundle) -> None:
        torch.set_num_threads(1)
        self.config: Config = build(Config, config, "")
        self.start = start.parameters
        self.model = process_model(self.config, start, compute_device(self.config.sweep.gpus_per_trial))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        output: dict[str, list[Any]] = {
            name: [] for name in ("row", "path", "error", "image_id", "train_tokens", "teacher_logits", "score_tokens")
        }
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
            for name in ("image_id", "train_tokens", "teacher_logits", "score_tokens"):
                output[name].append(None if encoded is None else encoded[name])
        return output

    def _encode(self, path: str, quality: float) -> dict[str, Any]:
        data = image_bytes(path)
        image = read_image(data, self.config.images)
        size_px = self.model.image_size_px
        train = training_views(image, self.config.views, size_px, self.config.seed, path.rsplit("/", 1)[-1])
        score = whole_grid(scoring_views(image, self.config.views, size_px), self.config.views)
        views = prepare_views(self.model, self.start, train[None], score[None], np.array([quality]), [path])
        return {
            "image_id": image_id(data),
            "train_tokens": _array(views.train_tokens_NVTD[0]),
            "teacher_logits": _array(views.teacher_logits_NVS[0]),
            "score_tokens": _array(views.score_tokens_NGTD[0]),
        }


def bad_rows(target: LabelledSet) -> tuple[dict[str, str], ...]:
    """Path and reason of the label rows that loading has left out."""
    return tuple({"path": reject.path, "reason": reject.reason} for reject in target.rejected)


def id_of_file(path: str) -> str | None:
    """The `image_id` of a file; null where it cannot be read, which its scoring will tell."""
    try:
        return image_id(image_bytes(path))
    except ImageError:
        return None


def check_rejects(config: TargetConfig, num_images: int, rejected: Sequence[dict[str, str]]) -> None:
    """Say what is left out. InputError when that is more than target.max_rejects allows."""
    for reject in rejected:
        say(f"target: skipped {reject['path']}: {reject['reason']}")
    if len(rejected) > config.max_rejects * num_images:
        raise InputError(
            f"{len(rejected)} of {num_images} target images cannot be used (first: {rejected[0]['path']}: "
            f"{rejected[0]['reason']}); repair them or raise target.max_rejects"
        )


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.view(torch.bfloat16) if array.dtype == np.int16 else tensor.to(dtype)
