"""The labelled target, encoded once with Ray Data: what every adaptation and every trial shares, and the next run of
the same target finds on disk.

What is encoded depends on the pixels, the views, the weights of the backbone, the precision, and on the prompts of the
blocks in front of the first one that adapts. Runs that differ in anything else share an entry of the cache, and those
that differ in these blocks alone, such as the arms of an ablation, are encoded in one pass over the images.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import ImageError, InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.identity import digest_of
from grmp_core.imaging.decoding import decode_image, id_of_file, image_bytes
from grmp_core.imaging.views import scoring_views, whole_grid
from grmp_core.learning.few_shot import predict_quality
from grmp_core.learning.labelled_views import LabelledViews, Prefix, TokenRows
from grmp_core.model.bundle import Bundle
from grmp_core.model.quality_model import Parameters, QualityModel
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import bad_rows, check_leaks, check_rejects
from pipelines.few_shot.starting_model import process_model
from pipelines.few_shot.target_encoder import array_of, encoded_rows, file_name
from pipelines.few_shot.token_cache import EntryWriter, TokenCache, TokenEntry
from pipelines.runtime.console import say
from pipelines.runtime.provenance import package_version

Start = tuple[Config, Bundle]
"""Settings and prompts that an adaptation starts from."""
HALF_TOLERANCE = 1e-4
"""Float32 tokens are kept as float16 where no quality of a sample changes by more."""
_SAMPLE = 8
_READERS_AT_ONCE = 16
_FORMAT = 3
_DECODERS = ("opencv-python-headless", "pillow", "pi-heif", "imagecodecs", "jxlpy", "torch")
"""Packages that decide about pixels, and about tokens."""


@dataclass(frozen=True, kw_only=True)
class EncodedTarget:
    """Labels, and everything about the images that no trial changes. Element i of all of them is one image."""

    image_path: tuple[str, ...]
    image_ids: tuple[str, ...]
    reference_ids: tuple[str, ...]
    perceptual_hashes: np.ndarray
    """(N,) uint64, as `near_duplicates` compares them."""
    mos: np.ndarray
    quality: np.ndarray
    row: np.ndarray
    """Of each image in the arrays, where images that cannot be read have one, too."""
    unreadable: tuple[dict[str, str], ...]
    """Path and reason of the images that are left out."""
    protocol: Protocol
    weights: np.ndarray | None = None
    """Of the labels in training; null where all count alike."""
    entry: TokenEntry | None = None
    """Where the arrays are mapped from; null where `held` has them."""
    held: dict[str, np.ndarray] | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """train_tokens (M, V, T, D), teacher_logits (M, V, S), score_tokens (M, G, T, D), bf16 as int16;
        statistics (M, F) float32."""
        if self.entry is not None:
            return self.entry.arrays()
        return self.held or {}

    def views(self, rows: np.ndarray, dtype: torch.dtype, device: torch.device) -> LabelledViews:
        """The images of these numbers as the adaptation wants them. On a CPU their tokens stay in the mapped file."""
        arrays, at = self.arrays, self.row[rows]

        def tokens(name: str) -> torch.Tensor | TokenRows:
            if self.entry is None or device.type != "cpu":
                return tensor_of(arrays[name][at], dtype).to(device)
            return TokenRows(stored=_as_stored(arrays[name]), rows=torch.from_numpy(at), dtype=dtype)

        return LabelledViews(
            tokens("train_tokens"),
            tensor_of(arrays["teacher_logits"][at], torch.float32).to(device),
            tokens("score_tokens"),
            torch.from_numpy(self.quality[rows].astype(np.float32)).to(device),
            torch.from_numpy(self.statistics(rows)),
            tuple(self.reference_ids[i] for i in rows),
            None if self.weights is None else torch.from_numpy(self.weights[rows].astype(np.float32)).to(device),
        )

    def statistics(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) of the images of these numbers."""
        return np.array(self.arrays["statistics"][self.row[rows]])


def encode_target(
    config: Config,
    target: LabelledSet,
    start: Bundle,
    protocol: Protocol,
    gpus_per_worker: float = 0,
    also: Sequence[Start] = (),
    *,
    here: bool = False,
) -> EncodedTarget:
    """Decode every image and run the frozen part of the model over its views, on all CPUs or GPUs of the cluster, but
    for what the cache of `target.encoded` has.

    Unreadable images are left out and listed. InputError as of `check_rejects` and `check_leaks`, and for an image that
    could be read at first and then no more, since a later run would have other images.

    Args:
        also: further starts of the same target; if anything is encoded, what they lack is, too, as far as it fits.
        here: by this process, without Ray.
    """
    cache = TokenCache(config.target.encoded, config.target.encoded_gb * 1e9)
    paths = target.image_paths
    with ThreadPoolExecutor(_READERS_AT_ONCE) as pool:
        ids = list(pool.map(id_of_file, paths))
    shared = _shared_key(config, start, ids, paths)
    key = f"{shared}-{_prefix_key(prefix_of(config, start))}"
    entry = cache.entry(key)
    if entry is None:
        alike = [one for one in also if _settings_of(*one) == _settings_of(config, start)]
        entry = _encode(cache, ids, target, [(config, start), *alike], gpus_per_worker, here)
    else:
        say(f"target: {len(paths)} images were encoded before ({entry.folder})")
    return _of_entry(config, target, protocol, entry, mapped=here or _only_machine())


def _of_entry(
    config: Config, target: LabelledSet, protocol: Protocol, entry: TokenEntry, *, mapped: bool
) -> EncodedTarget:
    images, columns = entry.images(), target.table.to_pydict()
    order = [row for row, image in enumerate(images) if not image["error"]]
    paths = [target.image_paths[row] for row in order]
    rejected = _rejected(target, images)
    check_rejects(config.target, len(target), rejected, bad_rows(target))
    protocol = protocol.take(order)
    hashes = np.array([int(images[row]["perceptual_hash"], 16) for row in order], dtype=np.uint64)
    check_leaks(config.target, config.backbone, paths, hashes, protocol.splits.takes_part)
    return EncodedTarget(
        image_path=tuple(paths),
        image_ids=tuple(images[row]["image_id"] for row in order),
        reference_ids=tuple(columns["reference_id"][row] for row in order),
        perceptual_hashes=hashes,
        mos=np.array([columns["mos"][row] for row in order]),
        quality=np.array([columns["quality"][row] for row in order]),
        row=np.array(order, dtype=np.int64),
        unreadable=rejected,
        protocol=protocol,
        weights=None if target.weights is None else target.weights[order],
        entry=entry if mapped else None,
        held=None if mapped else entry.arrays(),  # other machines do not see the file
    )


def _only_machine() -> bool:
    """Whether all workers run on this machine, and so see its files."""
    return {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]} <= {socket.gethostname()}


def _encode(
    cache: TokenCache,
    ids: Sequence[str | None],
    target: LabelledSet,
    starts: Sequence[Start],
    gpus_per_worker: float,
    here: bool,
) -> TokenEntry:
    """Encode the target for the first start, and in the same pass for the others, as far as the cache has room."""
    config, start = starts[0]
    shared = _shared_key(config, start, ids, target.image_paths)
    sample = _sample(config, start, target.image_paths)
    parts: dict[str, tuple[Prefix, bool]] = {}
    room = cache.limit_bytes
    for one in starts:
        prefix = prefix_of(*one)
        key = f"{shared}-{_prefix_key(prefix)}"
        if key in parts or (parts and cache.entry(key) is not None):
            continue
        half, bytes_per_image = _measured(*one, sample)
        room -= bytes_per_image * len(target)
        if parts and room < 0:
            break
        parts[key] = prefix, half
    if len(parts) > 1:
        say(f"target: encoded for {len(parts)} arms in one pass")
    writers = [EntryWriter(cache, key, len(target)) for key in parts]
    images: list[dict[str, Any]] = [{}] * len(target)
    try:
        for row in encoded_rows(config, start, list(parts.values()), target.image_paths, gpus_per_worker, here=here):
            number = row["row"]
            images[number] = {name: row[name] for name in ("error", "image_id", "perceptual_hash")}
            if row["transient"] and ids[number] is not None:
                raise InputError(
                    f"{target.image_paths[number]} could be read when this run began, and then no more: "
                    f"{row['error']}; run the same command again, or with a lower images.max_pixels where memory is "
                    "short"
                )
            for i, writer in enumerate(writers if not row["error"] else ()):
                writer.write(number, {name: row[name] for name in ("teacher_logits", "statistics")})
                writer.write(number, {name: row[f"{name}_{i}"] for name in ("train_tokens", "score_tokens")})
        rejected = _rejected(target, images)
        if len(rejected) == len(target):
            check_rejects(config.target, len(target), rejected, bad_rows(target))
            raise InputError(f"none of the {len(target)} target images can be used (first: {rejected[0]['reason']})")
        return [writer.finish(images) for writer in reversed(writers)][-1]  # the first one is the last to be let go
    except BaseException:
        for writer in writers:
            writer.discard()
        raise


def _rejected(target: LabelledSet, images: Iterable[dict[str, Any]]) -> tuple[dict[str, str], ...]:
    pairs = zip(target.image_paths, images, strict=True)
    return tuple({"path": path, "reason": image["error"]} for path, image in pairs if image["error"])


def _sample(config: Config, start: Bundle, paths: Sequence[str]) -> np.ndarray | None:
    """Scoring views (n, G, H, W, 3) of a few images that can be read, spread over all; null where none can."""
    model, views = process_model(config, start, torch.device("cpu")), []
    for path in paths[:: max(1, len(paths) // (2 * _SAMPLE))]:
        try:
            image = decode_image(image_bytes(path), config.images)
            views.append(whole_grid(scoring_views(image, config.views, model.image_size_px), config.views))
        except ImageError:
            continue  # the run itself will list it
        if len(views) == _SAMPLE:
            break
    return np.stack(views) if views else None


def _measured(config: Config, start: Bundle, sample_NGHWC: np.ndarray | None) -> tuple[bool, int]:
    """Whether float16 tokens give the qualities of a sample, and bytes of an image's tokens then."""
    if sample_NGHWC is None:
        return False, 0
    model = process_model(config, start, torch.device("cpu"))
    parameters = model.adaptable_parameters(start.parameters)
    flat = torch.from_numpy(sample_NGHWC.reshape(-1, *sample_NGHWC.shape[2:]))
    stop = model.first_adapting_block
    parts = [model.prefix_tokens(start.parameters, part, stop) for part in flat.split(len(sample_NGHWC))]
    tokens = torch.cat(parts).unflatten(0, sample_NGHWC.shape[:2])
    half = tokens.dtype == torch.float32 and _as_good(model, parameters, tokens)
    views = config.views.train_views + tokens.shape[1]
    return half, tokens[0, 0].numel() * (2 if half else tokens.element_size()) * views


def _as_good(model: QualityModel, parameters: Parameters, tokens_NGTD: torch.Tensor) -> bool:
    whole, half = (predict_quality(model, parameters, one) for one in (tokens_NGTD, tokens_NGTD.half().float()))
    return bool(((whole - half).abs() <= HALF_TOLERANCE).all())  # false for what float16 cannot hold


def prefix_of(config: Config, start: Bundle) -> Prefix:
    """The frozen blocks of an adaptation."""
    return Prefix.of(process_model(config, start, torch.device("cpu")), start.parameters)


def _settings_of(config: Config, start: Bundle) -> list[object]:
    """All that decides about what is encoded, but for the pixels and the prefix."""
    sections = (dataclasses.asdict(section) for section in (config.views, config.images))
    return [*sections, config.seed, config.precision, start.backbone_sha256, config.backbone.normalization]


def _shared_key(config: Config, start: Bundle, ids: Sequence[str | None], paths: Sequence[str]) -> str:
    """For all prefixes. Names of files take part, since training views are drawn by them."""
    installed = [package_version(name) for name in _DECODERS]
    names = [file_name(path) for path in paths]
    return digest_of(_FORMAT, _settings_of(config, start), installed, list(ids), names)[:16]


def _prefix_key(prefix: Prefix) -> str:
    prompts = prefix.prompts_LPD
    parts = () if prompts is None else (list(prompts.shape), array_of(prompts.float()).tobytes())
    return digest_of(prefix.stop_block, *parts)[:16]


def _as_stored(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == np.int16 else tensor


def tensor_of(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """An array of `EncodedTarget.arrays`."""
    return _as_stored(np.ascontiguousarray(array)).to(dtype)
