"""One training step of grmp-nano: float32 masters, AdamW, a running average; forward and backward in bfloat16."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from grmp_core.errors import InputError
from grmp_core.learning.rank_losses import feature_triplet_loss
from grmp_core.model.prompts import VisualPrompt, num_visual_tokens
from grmp_core.model.settings import PromptConfig
from grmp_core.nano.crops import Batch
from grmp_core.nano.objective import WEIGHTS, family_losses
from grmp_core.nano.sentences import Sentences, draw_sentences
from grmp_core.nano.trainable_clip import TrainableClip

Average = Callable[[Tensor], None]
"""Replaces a flat tensor by its mean over all workers, in place."""

_STEM = "clip.visual.trunk.patch_embed.stages."
_POINTWISE = ("expand.weight", "narrow.weight")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    learning_rate: float = 1e-3
    """Of all that is new."""
    stem_rate: float = 2e-3
    """Of the pretrained convolutions, as a share of a tensor's own root mean square."""
    weight_decay: float = 0.05
    warmup_steps: int = 100
    head_start_steps: int = 200
    """Steps in which the stem stands still while the new parts learn to read it."""
    filter_every: int = 4
    """Steps between two that also move the stem's depthwise filters and biases, whose gradient costs as much as all the
    rest; the others move its pointwise weights only."""
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    """Of the averaged weights that are exported; reached gradually."""
    prompted: float = 0.3
    """Share of the steps in which the image tower also sees random visual prompts, as an untrained `VisualPrompt` makes
    them: it learns to let them pass, so that learned prompts start from what the tower can do without any."""
    triplet_weight: float = 0.0
    """Of `feature_triplet_loss` over the triplets of a batch, beside `objective.WEIGHTS`; 0: it is not computed."""
    pairs_per_step: int = 5
    classes_per_step: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.prompted <= 1:
            raise InputError(f"prompted {self.prompted}: a share of the steps lies in [0,1]")
        if self.triplet_weight < 0:
            raise InputError(f"triplet_weight {self.triplet_weight}: use 0 or more")
        if self.filter_every < 1:
            raise InputError(f"filter_every {self.filter_every}: use 1 or more")


class Trainer:
    """Random choices of step s come from (seed, s) alone: a resumed run goes on as it would have, and all workers ask
    with the same sentences.

    Args:
        average: of several workers; each then takes the step that one with all their batches would take (but ranking
            and correlation compare inside a worker's batch only).
    """

    def __init__(
        self,
        model: TrainableClip,
        class_words: Sequence[str],
        tokenize: Callable[[list[str]], Tensor],
        config: TrainConfig,
        seed: int,
        dtype: torch.dtype = torch.bfloat16,
        average: Average | None = None,
    ) -> None:
        self.model, self.class_words, self.tokenize = model, list(class_words), tokenize
        self.config, self.seed, self.dtype, self.average_over_workers = config, seed, dtype, average
        model.requires_grad_(False)
        self.parameters = model.trainable()
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self.averaged = AveragedModel(model, multi_avg_fn=_ramped_average(config.ema_decay))
        groups = parameter_groups(self.parameters, config)
        self._full_rates = [cast(float, group["lr"]) for group in groups]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.step = 0

    @property
    def device(self) -> torch.device:
        return self.model.rows_UD.device

    def train_step(self, batch: Batch, progress: float) -> dict[str, float]:
        """One update at `progress` in [0,1] of the run; -> the losses. FloatingPointError if they are not finite."""
        rng = np.random.default_rng([self.seed, self.step])
        config = self.config
        classes = batch.classes_BC.numpy()
        sentences = draw_sentences(rng, self.class_words, classes, config.classes_per_step, config.pairs_per_step)
        prompts_LVD = self._random_prompts(rng) if rng.random() < config.prompted else None
        batch = batch.to(self.device)
        tokens_KC = self.tokenize(sentences.texts).to(self.device)
        inputs = (batch.images_BHWC, tokens_KC, self._random_context(rng, sentences), prompts_LVD)
        self._choose_moving()
        image_BE, text_KE = functional_call(self.model, self._narrow(), inputs)
        scale = self.parameters["clip.logit_scale"].exp().clamp(max=100)
        losses = family_losses(scale * image_BE @ text_KE.T, batch, sentences)
        if config.triplet_weight > 0:
            losses["triplets"] = feature_triplet_loss(image_BE, batch.fidelity_B, batch.triplets_T3)
        weights = {**WEIGHTS, "triplets": config.triplet_weight}
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(f"loss is {float(total.detach())} at step {self.step}: no update was made")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._average_gradients()
        nn.utils.clip_grad_norm_(self.parameters.values(), config.clip_norm)
        share = rate(self.step, progress, config.warmup_steps)
        for group, full in zip(self.optimizer.param_groups, self._full_rates, strict=True):
            group["lr"] = full * share
        self.optimizer.step()
        self.step += 1
        self.averaged.update_parameters(self.model)
        return dict(zip(losses, torch.stack(list(losses.values())).detach().tolist(), strict=True))

    def averaged_model(self) -> TrainableClip:
        """A copy of the model that holds the averaged weights, in evaluation mode."""
        model = copy.deepcopy(self.averaged.module)
        return model.eval().requires_grad_(False)  # type: ignore[return-value]

    def state_dict(self) -> dict[str, object]:
        """Everything a resumed run needs, as tensors and numbers only."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "full_rates": self._full_rates,
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.averaged.load_state_dict(state["averaged"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self._full_rates = list(cast(list[float], state["full_rates"]))
        self.step = int(state["step"])  # type: ignore[call-overload]

    def _choose_moving(self) -> None:
        """The stem joins after the head start, all of it in one step of `filter_every`."""
        stem = self.step >= self.config.head_start_steps
        everything = stem and self.step % self.config.filter_every == 0
        for name, parameter in self.parameters.items():
            if name.startswith(_STEM):
                parameter.requires_grad_(stem if name.endswith(_POINTWISE) else everything)

    def _narrow(self) -> dict[str, Tensor]:
        """All floating tensors that the forward reads, in its type."""
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        unused = "clip.token_embedding.weight"
        return {n: t.to(self.dtype) for n, t in tensors.items() if t.is_floating_point() and t.dim() and n != unused}

    def _average_gradients(self) -> None:
        if self.average_over_workers is None:
            return
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        flat = nn.utils.parameters_to_vector(gradients)
        self.average_over_workers(flat)
        nn.utils.vector_to_parameters(flat, gradients)

    def _random_context(self, rng: np.random.Generator, sentences: Sentences) -> Tensor:
        """(K, M, D): for the family `learned` one context as an untrained text prompt has it, for all others NaN."""
        count, width = sentences.num_placeholder_tokens, self.model.rows_UD.shape[1]
        context = np.full((len(sentences.texts), count, width), np.nan, dtype=np.float32)
        context[sentences.places["learned"]] = 0.02 * rng.standard_normal((count, width))
        return torch.from_numpy(context).to(self.device)

    def _random_prompts(self, rng: np.random.Generator) -> Tensor:
        tower = self.model.vision
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        patch_size_px = 16  # what `QualityModel` takes for image towers of timm
        prompt = VisualPrompt(num_visual_tokens(PromptConfig(), tower), tower, patch_size_px, generator)
        return prompt(torch.empty(0)).detach().to(self.device)


def parameter_groups(parameters: dict[str, nn.Parameter], config: TrainConfig) -> list[dict[str, object]]:
    """AdamW's groups: new matrices decay, vectors and tables do not, each tensor of the stem has its own rate.

    Folding leaves the stem's tensors at scales from .01 to 1, and an Adam step has the size of its rate.
    """
    stem = {n: p for n, p in parameters.items() if n.startswith(_STEM)}
    new = {n: p for n, p in parameters.items() if n not in stem}
    decayed = [
        p for n, p in new.items() if p.dim() > 1 and "positional" not in n and "pos_embed" not in n and n != "rows_UD"
    ]
    others = [p for p in new.values() if all(p is not d for d in decayed)]
    groups: list[dict[str, object]] = [
        {"params": decayed, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": others, "lr": config.learning_rate, "weight_decay": 0.0},
    ]
    for parameter in stem.values():
        size = float(parameter.detach().square().mean().sqrt())
        groups.append({"params": [parameter], "lr": config.stem_rate * max(size, 1e-3), "weight_decay": 0.0})
    return groups


def rate(step: int, progress: float, warmup_steps: int) -> float:
    """Share of the full learning rate: a linear start, times half a cosine over the progress of the run."""
    return min(1.0, (step + 1) / max(1, warmup_steps)) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


def _ramped_average(decay: float) -> Callable[..., None]:
    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, num_averaged)

    return update
