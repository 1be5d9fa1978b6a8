"""A frozen CLIP: by open_clip name and tag, from a local checkpoint, or the one embedded in this package."""

from __future__ import annotations

import difflib
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from grmp_core.errors import InputError
from grmp_core.model.blocks import fuse_activations
from grmp_core.model.nano_trunk import SIZES, cut_weights  # to import it is to make the trunks known to timm
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.model.torchscript_archive import is_torchscript, read_tensors

_ASSETS = Path(str(resources.files("grmp_core"))) / "assets"
for _name in SIZES:  # to import this module is to make them known to open_clip
    open_clip.add_model_config(_ASSETS / f"{_name}.json")
Rgb = tuple[float, float, float]
OPENAI_MEAN: Rgb = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Rgb = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Rgb = (0.485, 0.456, 0.406)
IMAGENET_STD: Rgb = (0.229, 0.224, 0.225)
_ARCHIVE_EXTRAS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""Numbers in OpenAI's archives that are no weights."""


@dataclass(frozen=True)
class Backbone:
    """A CLIP in evaluation mode with everything that must travel with it."""

    clip: nn.Module
    tokenize: Callable[[list[str]], Tensor]
    """K sentences -> (K, context length) int64 token numbers."""
    config: BackboneConfig
    image_size_px: int
    mean: Rgb
    std: Rgb
    """Of pixels in [0, 1], by `BackboneConfig.normalization`."""
    weights_sha256: str
    """Hash of all weights in state-dict order: two backbones with equal hashes give equal features."""


def load_backbone(config: BackboneConfig, weights: Mapping[str, Tensor] | None = None) -> Backbone:
    """Build the model and load its weights in float32 on the CPU; `weights` takes the place of tag and checkpoint.

    PyTorch's random state is put back afterwards. Backbones of one name in a process share their tokenizer.

    Raises InputError when the name is unknown, when neither tag nor checkpoint is given for a model that is not
    embedded, when a download fails, and when a checkpoint does not fit the architecture.
    """
    names = open_clip.list_models()
    if config.name not in names:
        nearest = difflib.get_close_matches(config.name, names, n=3, cutoff=0.3)
        raise InputError(f"backbone.name '{config.name}' is unknown to open_clip; nearest: {', '.join(nearest)}")
    if config.name in SIZES and config.pretrained is not None:
        raise InputError(
            f"backbone.pretrained '{config.pretrained}': {config.name} is embedded and has no tags; leave it out"
        )
    with torch.random.fork_rng(devices=[]), _Zeroed():
        clip = _load_weights(config) if weights is None else _with_weights(config.name, weights)
    clip = clip.eval().requires_grad_(False)
    fuse_activations(clip)
    mean, std = _preprocessing(config, clip)
    return Backbone(
        clip=clip,
        tokenize=_tokenizer(config.name),
        config=config,
        image_size_px=_image_size(clip),
        mean=mean,
        std=std,
        weights_sha256=hash_weights(clip),
    )


def without_weights(name: str) -> nn.Module:
    """The model of that name on torch's `meta` device: shapes, and nothing in memory."""
    with _without_missing_weights_warning():
        return open_clip.create_model(name, load_weights=False, device="meta")


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names, shapes, and the float32 bytes of all floating tensors of `model`, as hex."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().contiguous().numpy().data)
    return digest.hexdigest()


def _tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    return _shared_tokenizer(name, repr(open_clip.get_model_config(name)["text_cfg"]))


@functools.cache
def _shared_tokenizer(name: str, text_config: str) -> Callable[[list[str]], Tensor]:
    """open_clip reads and sorts a vocabulary of 49,408 words for every tokenizer that it makes."""
    return open_clip.get_tokenizer(name)


class _Zeroed(TorchFunctionMode):
    """Within it the weights of new modules are 0 and not drawn at random, since all are loaded right after.

    Drawing them takes nearly all of the time of building a ViT-B/16.
    """

    _DRAWS = frozenset({nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in self._DRAWS:
            return func(*args, **(kwargs or {}))
        tensor: Tensor = args[0] if args else kwargs["tensor"]
        with torch.no_grad():
            return tensor.zero_()  # and not left as memory was: `trunc_normal_` repeats until its values are in range


def _load_weights(config: BackboneConfig) -> nn.Module:
    if config.name in SIZES and config.checkpoint is None:
        whole = load_file(_ASSETS / f"{EMBEDDED}.safetensors")
        return _with_weights(config.name, {n: t.float() for n, t in cut_weights(config.name, whole).items()})
    if config.checkpoint is not None:
        return _load_checkpoint(config, Path(config.checkpoint))
    if config.pretrained is None:
        raise InputError(
            f"backbone '{config.name}' has no weights: set backbone.pretrained to one of "
            f"{', '.join(open_clip.list_pretrained_tags_by_model(config.name)) or '(no tags known)'}, "
            "or backbone.checkpoint to a local file"
        )
    if not get_pretrained_cfg(config.name, config.pretrained):
        raise InputError(
            f"backbone.pretrained '{config.pretrained}' is not a tag of {config.name}; it has "
            f"{', '.join(open_clip.list_pretrained_tags_by_model(config.name)) or 'none'}"
        )
    try:
        return open_clip.create_model(config.name, pretrained=config.pretrained, weights_only=True)
    except (OSError, RuntimeError, ImportError) as error:  # what urllib, the hub client and open_clip raise offline
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"weights of {config.name} '{config.pretrained}' could not be downloaded "
            f"({type(error).__name__}: {reason}); give a local file with backbone.checkpoint=PATH, "
            f"or use the embedded backbone with backbone.name={EMBEDDED}"
        ) from error


def _load_checkpoint(config: BackboneConfig, path: Path) -> nn.Module:
    if not path.is_file():
        raise InputError(f"backbone.checkpoint '{path}' does not exist; give the path of a weights file")
    try:
        state = _plain_tensors(path)
        if state is not None:
            return _with_weights(config.name, state)
        return open_clip.create_model(config.name, pretrained=str(path), weights_only=True)
    except Exception as error:  # safetensors, zipfile, pickle and torch each have their own kinds for a foreign file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise InputError(
            f"backbone.checkpoint '{path}' does not hold weights of {config.name} ({type(error).__name__}: {reason}); "
            "give weights of this architecture or change backbone.name"
        ) from error


def _with_weights(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    with _without_missing_weights_warning():
        model = open_clip.create_model(name, load_weights=False)
    model.load_state_dict(state, strict=True)
    return model


def _plain_tensors(path: Path) -> dict[str, Tensor] | None:
    """float32 tensors of a file that holds nothing else that matters; null for what `torch.save` wrote."""
    if path.suffix == ".safetensors":
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    if is_torchscript(path):
        tensors = read_tensors(path)
        return {n: t.float() for n, t in tensors.items() if n.rpartition(".")[2] not in _ARCHIVE_EXTRAS}
    return None


@contextmanager
def _without_missing_weights_warning() -> Iterator[None]:
    """open_clip warns, on the root logger, that a model has random weights; here they are loaded right after."""
    logger = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return "No pretrained weights loaded" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _image_size(clip: nn.Module) -> int:
    size: Any = clip.get_submodule("visual").image_size
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise InputError(f"backbone wants {height}x{width} px images; only square ones are supported")
    return int(height)


def _preprocessing(config: BackboneConfig, clip: nn.Module) -> tuple[Rgb, Rgb]:
    """Mean and std by `config.normalization`; the published code uses ImageNet's for CLIP by mistake."""
    if config.normalization == "imagenet":
        return IMAGENET_MEAN, IMAGENET_STD
    visual = getattr(clip.visual, "preprocess_cfg", None) or {}
    tag = get_pretrained_cfg(config.name, config.pretrained) if config.pretrained else None
    source = {**visual, **{k: v for k, v in (tag or {}).items() if k in ("mean", "std") and v is not None}}
    return _rgb(source.get("mean") or OPENAI_MEAN), _rgb(source.get("std") or OPENAI_STD)


def _rgb(values: Sequence[float]) -> Rgb:
    red, green, blue = values
    return float(red), float(green), float(blue)


def dtype_of(precision: str) -> torch.dtype:
    """`fp32` or `bf16` -> torch dtype. InputError otherwise."""
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if precision not in dtypes:
        raise InputError(f"precision '{precision}' is unknown; use fp32 or bf16")
    return dtypes[precision]
