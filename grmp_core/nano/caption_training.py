"""Training an open_clip model from scratch on families of captions.

Every image is compared with *all captions of a family*, not only with those of its batch: the text tower encodes the
family's captions once a step, and the image's logits over them are trained towards a soft target. Families are few and
known, so this is exact where in-batch contrast (CLIP, Radford et al. 2021) would see a caption by chance, and it allows
targets between captions: quality .7 lies between "good" and "fair".

Shapes: B images, K captions of a family, P antonym pairs, T = distortion types + 1 (undistorted), E joint embedding,
N tokens of the image tower, C token numbers of a caption.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

from grmp_core.errors import InputError
from grmp_core.model import scene_words
from grmp_core.model.prompts import PromptConfig, VisualPrompt, num_visual_tokens
from grmp_core.nano import captions
from grmp_core.nano.caption_model import CaptionModel

Average = Callable[[Tensor], None]

_WEIGHTS = {
    "pairs": 1.0,
    "fidelity": 0.5,
    "attributes": 2.0,
    "grades": 0.5,
    "types": 0.8,
    "severities": 0.3,
    "classes": 0.15,
    "scenes": 0.15,
    "ranking": 0.5,
}


@dataclass(frozen=True)
class Batch:
    """Images with what is known of them; a row of zeros in a target means unknown."""

    images_BHWC: Tensor
    """uint8 RGB."""
    quality_B: Tensor
    """float32 in [0,1]: the photo's own quality and what its damage costs."""
    fidelity_B: Tensor
    """float32 in [0,1]: what the damage alone leaves."""
    attributes_BA: Tensor
    """float32 in [0,1], one a name of `attributes.ATTRIBUTES`, measured on the image as it is."""
    types_BT: Tensor
    """Weights over the types, the last one for undistorted; each row adds up to 1."""
    severities_BK: Tensor
    """Weights over `captions.severity_captions`; zero rows for compositions."""
    classes_B: Tensor
    """int64 index into the class words, -1 unknown."""
    scenes_B: Tensor
    """int64 index into `captions.SCENES`, -1 unknown."""

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 150
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    """Of the averaged weights that are exported; reached gradually, as (1 + step) / (10 + step) allows."""
    keep_fraction: float = 0.5
    """Patches that the image tower sees in the first part of training: half of them take less than half the time."""
    full_from: float = 0.75
    """Progress in [0,1] from which on it sees all of them."""
    prompted: float = 0.5
    """Share of the steps in which the image tower also sees random visual prompts, as an untrained `VisualPrompt` makes
    them: it learns to let them pass, so that learned prompts start from what the tower can do without any."""
    pairs_per_step: int = 5
    ranking_gap: float = 0.1
    """Difference of quality that makes an order of two images 73 % certain."""
    weights: dict[str, float] = field(default_factory=lambda: dict(_WEIGHTS))

    def __post_init__(self) -> None:
        if not 0 < self.keep_fraction <= 1 or not 0 <= self.full_from <= 1:
            raise InputError(f"keep_fraction {self.keep_fraction}, full_from {self.full_from}: both lie in (0,1]")
        if not 0 <= self.prompted <= 1:
            raise InputError(f"prompted {self.prompted}: a share of the steps lies in [0,1]")


def soft_caption_loss(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Cross-entropy against weights over a family's captions, mean over the rows that have any; 0 if none has."""
    known_B = targets_BK.sum(dim=-1)
    per_image_B = -(targets_BK * F.log_softmax(logits_BK, dim=-1)).sum(dim=-1)
    return per_image_B.sum() / known_B.sum().clamp(min=1)


def pair_loss(logits_BPC: Tensor, quality_BP: Tensor) -> Tensor:
    """Cross-entropy of (good, bad) logits (B, P, 2) against (quality, 1 − quality), mean over images and pairs.

    `quality_BP`: in [0,1], one a pair, or (B, 1) for all pairs alike.
    """
    targets_BPC = torch.stack([quality_BP, 1 - quality_BP], dim=-1).expand_as(logits_BPC)
    return -(targets_BPC * F.log_softmax(logits_BPC, dim=-1)).sum(dim=-1).mean()


def ranking_loss(scores_B: Tensor, quality_B: Tensor, gap: float) -> Tensor:
    """Pairwise logistic loss over all ordered pairs of the batch (RankNet, Burges et al. 2005) with soft targets.

    The target probability that image i is the better one is sigmoid((quality_i − quality_j) / gap).
    """
    certainty_BB = torch.sigmoid((quality_B[:, None] - quality_B[None]) / gap)
    difference_BB = scores_B[:, None] - scores_B[None]
    loss_BB = F.binary_cross_entropy_with_logits(difference_BB, certainty_BB, reduction="none")
    off_diagonal = ~torch.eye(len(scores_B), dtype=torch.bool, device=scores_B.device)
    return loss_BB[off_diagonal].mean()


def one_hot_where_known(index_B: Tensor, count: int) -> Tensor:
    """int64 indices (B,) -> (B, count) float32, a row of zeros for -1."""
    return F.one_hot(index_B.clamp(min=0), count).float() * (index_B >= 0)[:, None]


class FamilyCaptions:
    """Draws one step's captions: the families one behind the other, and where each lies."""

    def __init__(self, types: Sequence[str], class_words: Sequence[str], config: TrainConfig) -> None:
        self.types, self.class_words, self.config = list(types), list(class_words), config

    def draw(self, rng: np.random.Generator, batch: Batch) -> tuple[list[str], dict[str, slice], list[int]]:
        """-> captions, the slice of each family, and the class indices that the class captions stand for."""
        present = sorted({int(i) for i in batch.classes_B if i >= 0})
        pairs = captions.quality_pairs(rng, self.config.pairs_per_step)
        families = {
            "pairs": [text for pair in pairs for text in pair],
            "fidelity": [text for pair in captions.fidelity_pairs(rng) for text in pair],
            "attributes": [text for pair in captions.attribute_pairs(rng) for text in pair],
            "grades": captions.grade_captions(rng),
            "types": captions.distortion_captions(self.types, rng),
            "severities": captions.severity_captions(self.types, rng),
            "classes": captions.class_captions([self.class_words[i] for i in present], rng),
            "scenes": captions.scene_captions(rng),
        }
        texts: list[str] = []
        places = {}
        for name, family in families.items():
            places[name] = slice(len(texts), len(texts) + len(family))
            texts += family
        return texts, places, present


def family_losses(
    logits_BK: Tensor, batch: Batch, places: dict[str, slice], present: Sequence[int], config: TrainConfig
) -> dict[str, Tensor]:
    """All losses of a step, unweighted, by name. `present`: the class indices behind the class captions."""
    by_family = {name: logits_BK[:, place] for name, place in places.items()}
    grade_targets = torch.from_numpy(captions.grade_targets(batch.quality_B.cpu().numpy())).to(logits_BK.device)
    logits_BPC = by_family["pairs"].unflatten(1, (-1, 2))
    losses = {
        "pairs": pair_loss(logits_BPC, batch.quality_B[:, None]),
        "fidelity": pair_loss(by_family["fidelity"].unflatten(1, (-1, 2)), batch.fidelity_B[:, None]),
        "attributes": pair_loss(by_family["attributes"].unflatten(1, (-1, 2)), batch.attributes_BA),
        "grades": soft_caption_loss(by_family["grades"], grade_targets),
        "types": soft_caption_loss(by_family["types"], batch.types_BT),
        "severities": soft_caption_loss(by_family["severities"], batch.severities_BK),
        "scenes": soft_caption_loss(by_family["scenes"], one_hot_where_known(batch.scenes_B, len(scene_words.SCENES))),
        "ranking": ranking_loss(logits_BPC[:, 0, 0] - logits_BPC[:, 0, 1], batch.quality_B, config.ranking_gap),
    }
    if len(present) > 1:
        local = {index: place for place, index in enumerate(present)}
        index_B = torch.tensor([local.get(int(i), -1) for i in batch.classes_B], device=logits_BK.device)
        losses["classes"] = soft_caption_loss(by_family["classes"], one_hot_where_known(index_B, len(present)))
    return losses


class Trainer:
    """Float32 master weights, their running average, AdamW; forward and backward in `dtype`.

    `tokenize` maps captions to token numbers (K, C). Random choices of step s come from (seed, s) alone, so that a
    resumed run goes on as it would have, and several workers ask with the same captions.

    `average`: of several workers, replaces a flat tensor by its mean over all of them, in place; each worker then takes
    the step that one with all their batches would take (the ranking loss compares inside a worker's batch only).
    """

    def __init__(
        self,
        model: CaptionModel,
        captions_of: FamilyCaptions,
        tokenize: Callable[[list[str]], Tensor],
        config: TrainConfig,
        seed: int,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device = torch.device("cpu"),  # noqa: B008  # a constant
        average: Average | None = None,
    ) -> None:
        model = model.to(device)
        self.device, self.average_over_workers = device, average
        self.model, self.captions_of, self.tokenize = model, captions_of, tokenize
        self.config, self.seed, self.dtype = config, seed, dtype
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()}
        decayed = [p for n, p in self.parameters.items() if p.dim() > 1 and "positional" not in n and n != "rows_UD"]
        others = [p for p in self.parameters.values() if all(p is not d for d in decayed)]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        self.step = 0

    def train_step(self, batch: Batch, progress: float) -> dict[str, float]:
        """One update at `progress` in [0,1] of the run; -> the losses. FloatingPointError if they are not finite."""
        config = self.config
        rng = np.random.default_rng([self.seed, self.step])
        texts, places, present = self.captions_of.draw(rng, batch)
        kept_N = self._kept_patches(rng) if progress < config.full_from else None
        prompts_LVD = self._random_prompts(rng) if rng.random() < config.prompted else None
        narrow = {n: p.to(self.dtype) if p.dim() else p for n, p in self.parameters.items()}
        batch = batch.to(self.device)
        inputs = (batch.images_BHWC, self.tokenize(texts).to(self.device), kept_N, prompts_LVD)
        image_BE, text_KE = functional_call(self.model, narrow, inputs)
        scale = self.parameters["clip.logit_scale"].exp().clamp(max=100)
        losses = family_losses(scale * image_BE @ text_KE.T, batch, places, present, config)
        total = torch.stack([config.weights[name] * loss for name, loss in losses.items()]).sum()
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(f"loss is {float(total.detach())} at step {self.step}: no update was made")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._average_gradients()
        nn.utils.clip_grad_norm_(self.parameters.values(), config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(self.step, progress, config.warmup_steps)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def reset_average(self) -> None:
        """Let the running average start from the weights as they are now."""
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()}

    def averaged_model(self) -> CaptionModel:
        """A copy of the model that holds the averaged weights, in evaluation mode."""
        model = copy.deepcopy(self.model)
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in self.average.items():
                own[name].copy_(tensor)
        return model.eval()

    def state_dict(self) -> dict[str, object]:
        """Everything a resumed run needs, as tensors and numbers only."""
        masters = {n: p.detach() for n, p in self.parameters.items()}
        return {
            "masters": masters,
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        with torch.no_grad():
            for mine, theirs in ((self.parameters, state["masters"]), (self.average, state["average"])):
                for name, tensor in mine.items():
                    tensor.copy_(theirs[name])  # type: ignore[index]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self.step = int(state["step"])  # type: ignore[call-overload]

    def _average_gradients(self) -> None:
        if self.average_over_workers is None:
            return
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        flat = nn.utils.parameters_to_vector(gradients)
        self.average_over_workers(flat)
        nn.utils.vector_to_parameters(flat, gradients)

    def _kept_patches(self, rng: np.random.Generator) -> Tensor:
        num_patches = self.model.clip.visual.positional_embedding.shape[0] - 1
        kept = rng.permutation(num_patches)[: max(1, round(num_patches * self.config.keep_fraction))]
        return torch.from_numpy(np.sort(kept)).to(self.device)

    def _random_prompts(self, rng: np.random.Generator) -> Tensor:
        tower = self.model.vision
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        patch_size_px = self.model.clip.visual.conv1.kernel_size[0]
        prompt = VisualPrompt(num_visual_tokens(PromptConfig(), tower), tower, patch_size_px, generator)
        return prompt().detach().to(self.device)

    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        own = [self.parameters[name].detach() for name in self.average]
        get_ema_multi_avg_fn(decay)(list(self.average.values()), own, self.step)


def rate(step: int, progress: float, warmup_steps: int) -> float:
    """Share of the full learning rate: a linear start, times half a cosine over the progress of the run."""
    return min(1.0, (step + 1) / max(1, warmup_steps)) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
