"""Checkpoints of the published code (GRMP-IQA, commit b36d254): its names, and the ones here.

Pre-training saves all tensors of a DataParallel model but the token embedding; fine-tuning those, too, at times one
level down under `state_dict`.

Shapes: M context tokens, V visual tokens, L blocks, D width of a tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.model.quality_model import Parameters

_CONTEXT = "prompt_learner2.ctx"
_TOKENS, _DEEP_TOKENS = "image_encoder.prompt_embeddings", "image_encoder.deep_prompt_embeddings"
_PROMPTS = {
    _CONTEXT: "text_prompt.context_MD",
    "image_encoder.prompt_proj.weight": "visual_prompt.weight_DD",
    "image_encoder.prompt_proj.bias": "visual_prompt.bias_D",
    "image_encoder.prompt_norm.weight": "visual_prompt.norm.weight",
    "image_encoder.prompt_norm.bias": "visual_prompt.norm.bias",
}
_PREFIXES = {"image_encoder.": "clip.visual.", "text_encoder.": "clip.", "logit_scale": "clip.logit_scale"}
_NEEDED = (_CONTEXT, _TOKENS, _DEEP_TOKENS, "image_encoder.prompt_proj.weight", "image_encoder.prompt_proj.bias")


def read_published(path: str) -> Parameters:
    """All tensors of a checkpoint, float32, under the names that they have here; nothing in the file is run.

    InputError for a file that is missing, holds more than tensors, or is no checkpoint of the published code, and for
    prompts of another shape.
    """
    if not Path(path).is_file():
        raise InputError(f"checkpoint '{path}' does not exist; give the path of a file that the published code saved")
    try:
        content: Any = load_file(path) if path.endswith(".safetensors") else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile, torch and safetensors each have their own kinds for a foreign file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"checkpoint '{path}' cannot be read as tensors alone ({reason})") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(
            f"checkpoint '{path}' is no table of tensors; give the state dict that the published code saved"
        )
    plain = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    missing = [name for name in _NEEDED if name not in plain]
    if missing:
        raise InputError(
            f"checkpoint '{path}' is not of the published code: expected {', '.join(missing)} among its tensors, found "
            f"{', '.join(list(plain)[:5]) or 'none'}{' …' if len(plain) > 5 else ''}"
        )
    _check_shapes(plain, path)
    return renamed(plain, path)


def _check_shapes(state: Mapping[str, Tensor], path: str) -> None:
    first, deep = (state[name].shape for name in (_TOKENS, _DEEP_TOKENS))
    fitting = {
        _CONTEXT: ("M x D", state[_CONTEXT].dim() == 2),
        _TOKENS: ("1 x V x D", len(first) == 3),
        _DEEP_TOKENS: (f"(L - 1) x V x D with V and D of {_TOKENS}", len(deep) == 3 and deep[1:] == first[1:]),
    }
    for name, (expected, fits) in fitting.items():
        if not fits:
            raise InputError(
                f"checkpoint '{path}': expected {name} of shape {expected}, found {tuple(state[name].shape)}; give the "
                "state dict that the published code saved"
            )


def renamed(state: Mapping[str, Tensor], where: str = "checkpoint") -> Parameters:
    """Published names without `module.` -> names here. InputError for a name that the published code does not have."""
    found = {_PROMPTS[name]: tensor for name, tensor in state.items() if name in _PROMPTS}
    found["visual_prompt.tokens_LVD"] = torch.cat([state[_TOKENS], state[_DEEP_TOKENS]])
    unknown = []
    for name, tensor in state.items():
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if name in (*_PROMPTS, _TOKENS, _DEEP_TOKENS) or name.startswith("prompt_learner2.token_"):
            continue
        if prefix is None:
            unknown.append(name)
        else:
            found[_PREFIXES[prefix] + name.removeprefix(prefix)] = tensor
    if unknown:
        raise InputError(
            f"checkpoint '{where}' has tensors that the published code does not have: {', '.join(unknown[:5])}"
        )
    return {name: tensor.detach().float() for name, tensor in found.items()}
