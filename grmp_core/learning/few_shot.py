"""Few-shot adaptation with quality-aware gradient regularization.

The epoch to stop at is chosen inside the labelled budget (held-out folds); the model that is kept is then trained on
all of it for that long. The published code picks the epoch on the test images.

Shapes: N images, V training views per image, G scoring views per image, T tokens, D width, S scenes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grmp_core.continual.pair_losses import pair_distillation_loss
from grmp_core.errors import NonFiniteLossError
from grmp_core.evaluation.splits import validation_folds
from grmp_core.learning.calibration import fit_calibration, within_bounds
from grmp_core.learning.cross_fitting import best_epoch, cross_fitted, held_out_srcc
from grmp_core.learning.gradient_projection import regularize
from grmp_core.learning.labelled_views import LabelledViews, TokenRows
from grmp_core.learning.losses import adaptation_loss, margins, semantic_loss
from grmp_core.learning.settings import AdaptConfig
from grmp_core.model.adapting_parts import CALIBRATION
from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.seeds import generator_of, seed_of

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
"""(fit, held-out) rows of every fold."""


@dataclass(frozen=True)
class EpochRecord:
    """Means over the steps of one epoch of the final training run."""

    epoch: int
    quality_loss: float
    semantic_loss: float
    """NaN where lambda is 0: the semantic gradient is not computed then."""
    angle_deg: float
    projected_share: float


@dataclass(frozen=True, eq=False)
class Validation:
    """The number of epochs that held-out images choose."""

    epochs: int
    val_srcc: float
    """SRCC of held-out predictions at the chosen epoch, over all labelled images that were held out."""
    val_srcc_by_epoch: tuple[tuple[int, float], ...]
    held_out_N: np.ndarray
    """Quality of every labelled image from the model of the folds without it, after the epoch that the held-out images
    of the other folds choose; float64 (N,). NaN where there is none: with one fold no other one can choose."""


@dataclass(frozen=True)
class AdaptResult:
    parameters: Parameters
    """Named like the model's own: low-rank updates are merged into the weights."""
    epochs: int
    val_srcc: float
    val_srcc_by_epoch: tuple[tuple[int, float], ...]
    history: tuple[EpochRecord, ...]
    held_out_N: np.ndarray
    """This and the others as `Validation` has them."""


def adapt(
    model: QualityModel,
    start: Parameters,
    views: LabelledViews,
    config: AdaptConfig,
    seed: int,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    validation: Validation | None = None,
) -> AdaptResult:
    """Choose the number of epochs on held-out folds of `views`, then train on all of it from `start`.

    validation: what `validate` gave for the same arguments, so that it is not done again.

    Raises InputError with fewer labelled images than folds, NonFiniteLossError when a loss stops being finite.
    """
    validation = validation or validate(model, start, views, config, seed)
    start = calibrated_start(model, start, views)
    parameters, history = start, []
    for record, trained in train(model, start, views, config, seed, validation.epochs):
        parameters = trained
        history.append(record)
        if on_epoch is not None:
            on_epoch(record)
    return AdaptResult(
        model.merged(parameters),
        validation.epochs,
        validation.val_srcc,
        validation.val_srcc_by_epoch,
        tuple(history),
        validation.held_out_N,
    )


def validate(
    model: QualityModel, start: Parameters, views: LabelledViews, config: AdaptConfig, seed: int
) -> Validation:
    """Choose the number of epochs on held-out folds of `views`. Raises as `adapt`."""
    folds = folds_of(config, views.reference_ids, seed)
    curve = list(held_out_curve(model, start, views, config, seed, folds))
    quality = views.quality_N.cpu().numpy()
    rows = [held_out for _, held_out in folds]
    scores = [(epoch, held_out_srcc(predicted, rows, quality)) for epoch, predicted in curve]
    epochs, val_srcc = best_epoch(scores, config.epochs)
    return Validation(epochs, val_srcc, tuple(scores), cross_fitted(curve, rows, quality, config.epochs))


def validation_curve(
    model: QualityModel, start: Parameters, views: LabelledViews, config: AdaptConfig, seed: int
) -> Iterator[tuple[int, float]]:
    """(epoch, SRCC over all held-out images) for every validated epoch; the folds train side by side."""
    folds = folds_of(config, views.reference_ids, seed)
    quality, rows = views.quality_N.cpu().numpy(), [held_out for _, held_out in folds]
    for epoch, predicted in held_out_curve(model, start, views, config, seed, folds):
        yield epoch, held_out_srcc(predicted, rows, quality)


def held_out_curve(
    model: QualityModel,
    start: Parameters,
    views: LabelledViews,
    config: AdaptConfig,
    seed: int,
    folds: Folds,
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """(epoch, predicted quality of the held-out images of each fold) for every validated epoch."""
    parts = [views.subset(fit) for fit, _ in folds]
    runs = [train(model, calibrated_start(model, start, part), part, config, seed, config.epochs) for part in parts]
    for epoch, states in enumerate(zip(*runs, strict=True), start=1):
        if epoch % config.eval_every and epoch != config.epochs:
            continue
        predicted = []
        for (_, held_out), (_, parameters) in zip(folds, states, strict=True):
            tokens = views.subset(held_out).score_tokens_NGTD
            predicted.append(predict_quality(model, parameters, tokens).cpu().numpy())
        if not np.isfinite(np.concatenate(predicted)).all():
            raise NonFiniteLossError(f"epoch {epoch}: a predicted quality is not finite; lower adapt.lr")
        yield epoch, predicted


def calibrated_start(model: QualityModel, start: Parameters, views: LabelledViews) -> Parameters:
    """`start` with the calibration that fits the labels, where it is among the parameters; see `fit_calibration`."""
    if CALIBRATION not in start:
        return start
    quality_N = predict_quality(model, start, views.score_tokens_NGTD).clamp(1e-6, 1 - 1e-6)
    margin_N = torch.logit(quality_N.double()).cpu().numpy()
    scale, offset = fit_calibration(margin_N, views.quality_N.double().cpu().numpy())
    return {**start, CALIBRATION: torch.tensor([scale, offset], dtype=torch.float32, device=model.device)}


def folds_of(config: AdaptConfig, reference_ids: Sequence[str], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(fit, validation) rows of the labelled images. InputError when they are too few to hold some out."""
    split_by: dict[str, Any] = {"fraction": config.holdout} if config.folds == 1 else {"folds": config.folds}
    return validation_folds(np.arange(len(reference_ids)), reference_ids, seed=seed, **split_by)


def train(
    model: QualityModel, start: Parameters, views: LabelledViews, config: AdaptConfig, seed: int, epochs: int
) -> Iterator[tuple[EpochRecord, Parameters]]:
    """Yield the parameters after each of `epochs` epochs. Order of images and choice of views follow `seed` alone."""
    parameters = start
    for epoch in range(1, epochs + 1):
        rng = generator_of("adapt", seed, epoch)
        order = rng.permutation(len(views))
        chosen = rng.integers(views.train_tokens_NVTD.shape[1], size=len(views))
        records = []
        for first in range(0, len(order), config.batch_size):
            rows = torch.from_numpy(order[first : first + config.batch_size])
            batch = AdaptationBatch.gather(
                views, rows, torch.from_numpy(chosen)[rows], seed_of("noise", seed, epoch, first)
            )
            try:
                parameters, record = adaptation_step(model, parameters, batch, config)
            except NonFiniteLossError as error:
                raise NonFiniteLossError(f"epoch {epoch}, batch {first // config.batch_size}: {error}") from error
            records.append(record)
        yield EpochRecord(epoch, *(_mean(column) for column in zip(*records, strict=True))), parameters


@dataclass(frozen=True)
class AdaptationBatch:
    tokens_BTD: Tensor
    teacher_logits_BS: Tensor
    quality_B: Tensor
    weight_B: Tensor | None = None
    noise_seed: int = 0
    """For a head that learns from noise."""
    before_B: Tensor | None = None
    """As of `LabelledViews`."""

    @staticmethod
    def gather(views: LabelledViews, rows: Tensor, chosen: Tensor, noise_seed: int = 0) -> AdaptationBatch:
        return AdaptationBatch(
            views.train_tokens_NVTD[rows, chosen],
            views.teacher_logits_NVS[rows, chosen],
            views.quality_N[rows],
            None if views.weight_N is None else views.weight_N[rows],
            noise_seed,
            None if views.before_NV is None else views.before_NV[rows, chosen],
        )


def adaptation_step(
    model: QualityModel, parameters: Parameters, batch: AdaptationBatch, config: AdaptConfig
) -> tuple[Parameters, tuple[float, float, float, float]]:
    """One SGD step on the regularized quality gradient; the calibration's scale stays within `SCALE_BOUNDS`.

    Both gradients come from one forward pass. -> (new parameters, (quality loss, semantic loss, angle, share)).
    """
    regularizing = config.qgr.strength > 0
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    prediction = model.predict(
        leaves,
        batch.tokens_BTD,
        start_block=model.first_adapting_block,
        scenes=regularizing,
        noise_seed=batch.noise_seed,
    )
    loss = adaptation_loss(prediction.quality_logits_BK, batch.quality_B, config.loss, batch.weight_B)
    if prediction.head_loss is not None:
        loss = loss + prediction.head_loss
    if batch.before_B is not None:
        kept = pair_distillation_loss(margins(prediction.quality_logits_BK), batch.before_B)
        loss = loss + config.distillation * kept
    gradients = _gradients(loss, leaves, retain=regularizing)
    semantic, angle, share = math.nan, math.nan, 0.0
    if regularizing and prediction.scene_logits_BS is not None:
        divergence = semantic_loss(prediction.scene_logits_BS, batch.teacher_logits_BS, config.qgr.temperature)
        gradients, report = regularize(gradients, _gradients(divergence, leaves), config.qgr)
        semantic, angle, share = float(divergence.detach()), report.angle_deg, report.projected_share
    _check_finite(loss, semantic if regularizing else 0.0, gradients)
    return _sgd_step(parameters, gradients, config), (float(loss.detach()), semantic, angle, share)


@torch.no_grad()
def predict_quality(
    model: QualityModel, parameters: Parameters, score_tokens_NGTD: Tensor | TokenRows, batch_size: int = 64
) -> Tensor:
    """Mean quality over the G scoring views, (N,), from tokens in front of the first adapting block.

    All batches of a call are of one size, so that equal images get equal qualities to the last bit.
    """
    num_images, num_views = score_tokens_NGTD.shape[:2]
    count = num_images * num_views
    batches = max(1, math.ceil(count / batch_size))
    size = max(1, math.ceil(count / batches))
    qualities = []
    for first in range(0, count, size):
        last = min(first + size, count)
        images = torch.arange(first // num_views, math.ceil(last / num_views))
        before = first % num_views
        part = score_tokens_NGTD[images].flatten(0, 1)[before : before + last - first]
        filled = part if len(part) == size else torch.cat([part, part[:1].expand(size - len(part), *part.shape[1:])])
        logits_BK = model.predict(parameters, filled, start_block=model.first_adapting_block).quality_logits_BK
        qualities.append(logits_BK.softmax(-1)[: len(part), 0])
    return torch.cat(qualities).view(num_images, num_views).mean(dim=1)


def _gradients(loss: Tensor, leaves: Parameters, retain: bool = False) -> Parameters:
    """By name; zero where the loss does not depend on a parameter (the scene words see no learned context)."""
    gradients = torch.autograd.grad(
        loss, list(leaves.values()), retain_graph=retain, allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, gradients, strict=True))


def _check_finite(loss: Tensor, semantic: float, gradients: Parameters) -> None:
    norm = torch.nn.utils.get_total_norm(list(gradients.values()))  # one number, one transfer
    if not (math.isfinite(float(loss.detach())) and math.isfinite(semantic) and math.isfinite(float(norm))):
        raise NonFiniteLossError(
            f"quality loss {float(loss.detach())}, semantic loss {semantic}, gradient norm {float(norm)}; "
            "nothing was moved by it: lower adapt.lr"
        )


@torch.no_grad()
def _sgd_step(parameters: Parameters, gradients: Parameters, config: AdaptConfig) -> Parameters:
    keep = 1 - config.lr * config.weight_decay
    stepped = {name: torch.add(tensor * keep, gradients[name], alpha=-config.lr) for name, tensor in parameters.items()}
    if CALIBRATION in stepped:
        stepped[CALIBRATION] = within_bounds(stepped[CALIBRATION])
    return stepped


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
