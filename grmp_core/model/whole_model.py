"""A model in one safetensors file: its backbone's weights, its learned tensors, and its description in the header.

It needs no other file and no download, unlike a bundle, which holds what was learned only. Weights whose values all
fit 16 bits are written in 16 bits: nothing is rounded. The file's format is that of safetensors, so that other programs
see tensors named `backbone.…` and `learned.…`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.bundle import DESCRIPTION, Bundle, bundle_of, check_backbone, description_of
from grmp_core.storage import Location
from grmp_core.strict_json import json_text

FORMAT = "grmp-iqa model"
VERSION = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
"""Beside the weights in a hub folder: the description again, for people and programs that do not read the header."""
_HEADER = "grmp-iqa"
_BACKBONE, _LEARNED = "backbone.", "learned."


def whole_model_bytes(bundle: Bundle, backbone: Backbone) -> bytes:
    """Content of the file. `backbone` is the bundle's own, as `load_backbone` gives it: a model that was made of it
    has other weights. InputError where it is another one."""
    check_backbone(bundle, backbone, "to be written")
    weights = {f"{_BACKBONE}{name}": _narrow(tensor) for name, tensor in backbone.clip.state_dict().items()}
    learned = {f"{_LEARNED}{name}": tensor.detach().cpu().contiguous() for name, tensor in bundle.parameters.items()}
    return save({**weights, **learned}, metadata={"format": "pt", _HEADER: json_text(whole_description(bundle))})


def whole_description(bundle: Bundle) -> dict[str, Any]:
    """A bundle's description without places of the machine that made it."""
    anywhere = dataclasses.replace(bundle, backbone=dataclasses.replace(bundle.backbone, checkpoint=None))
    return {"format": FORMAT, "version": VERSION, "digest": bundle.digest, **description_of(anywhere)}


def whole_model_at(place: Location) -> Location | None:
    """The file of a whole model: `place` itself, or in it where it is a hub folder; null where it is neither."""
    if place.name.endswith(".safetensors"):
        return place
    if (place / CONFIG).exists() and (place / WEIGHTS).exists() and not (place / DESCRIPTION).exists():
        return place / WEIGHTS
    return None


def read_whole_model(file: Location) -> tuple[Bundle, Backbone]:
    """The bundle and its backbone. InputError for another program's file, a newer one, and one that was changed."""
    if not file.exists():
        raise InputError(f"{file.uri} does not exist; give a file that grmp export wrote")
    data = file.read_bytes()
    description = _description(data, file)
    try:
        tensors = load(data)
        weights = {n.removeprefix(_BACKBONE): _wide(t) for n, t in tensors.items() if n.startswith(_BACKBONE)}
        learned = {n.removeprefix(_LEARNED): t for n, t in sorted(tensors.items()) if n.startswith(_LEARNED)}
        bundle = bundle_of(description, learned)
        backbone = load_backbone(bundle.backbone, weights)
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:  # RuntimeError: tensors of another shape
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file.uri} is damaged ({type(error).__name__}: {reason}); export it again") from error
    if bundle.digest != description.get("digest") or backbone.weights_sha256 != bundle.backbone_sha256:
        raise InputError(f"{file.uri} was changed after it was written: its tensors do not match their hash")
    return bundle, backbone


def _description(data: bytes, file: Location) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    try:
        description = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER])
    except (ValueError, KeyError, TypeError):
        description = None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{file.uri} holds no whole model of grmp-iqa; give a file that grmp export wrote")
    if description.get("version") != VERSION:
        raise InputError(
            f"{file.uri} has format version {description.get('version')}, this program reads {VERSION}; "
            "use the release that wrote it"
        )
    return description


def _narrow(tensor: Tensor) -> Tensor:
    half = tensor.half()
    exact = tensor.dtype == torch.float32 and torch.equal(half.float(), tensor)
    return (half if exact else tensor).contiguous().clone()


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
