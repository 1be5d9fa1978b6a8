"""Meta-prompt pre-training (MPP): learn prompts from which every distortion task is learned well.

One *outer* step takes a set of tasks. Each task starts from the shared parameters θ and gives an *update* u_i, a dict
of the same shape; the shared parameters then move by θ ← θ − β · mean_i(u_i). Updates only ever meet in that mean, so
tasks can be spread over any number of workers.

* `bilevel` (the published method): Adam on support and query batches in turn, u_i = θ − θ_i.
* `fomaml`: inner steps on the support batches, u_i = gradient of the query loss at θ_i.
* `maml`: the same gradient taken through the inner steps (second order).

Sources: paper, meta-prompt pre-training; pretrain.py of the published code. There the task model is never set back to
the shared parameters, so tasks leak into each other and their order matters; `resync: never` repeats that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grmp_core.errors import InputError, NonFiniteLossError
from grmp_core.learning.settings import MetaConfig
from grmp_core.model.quality_model import Parameters

LabelledBatch = tuple[Tensor, Tensor]
"""A batch: images and their quality."""


@dataclass(frozen=True)
class Episode:
    """One task's batches for one outer step."""

    task: str
    support: Sequence[LabelledBatch]
    query: Sequence[LabelledBatch]


def make_episode(
    task: str,
    support: tuple[np.ndarray, np.ndarray],
    query: tuple[np.ndarray, np.ndarray],
    config: MetaConfig,
    device: torch.device,
) -> Episode:
    """(views, quality) of each part -> an Episode of batches on `device`."""

    def batches(views: np.ndarray, quality: np.ndarray) -> list[LabelledBatch]:
        images = torch.from_numpy(np.array(views, copy=True)).to(device)
        labels = torch.as_tensor(np.array(quality, dtype=np.float32), device=device)
        return list(zip(images.split(config.batch_size), labels.split(config.batch_size), strict=True))

    return Episode(task, batches(*support), batches(*query))


LossFunction = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]
"""(parameters, images, quality) -> scalar loss, differentiable in the parameters."""


@dataclass(frozen=True)
class TaskUpdate:
    """The update that one task asks of the shared parameters, with its losses."""

    update: Parameters
    support_loss: float
    """Loss of the first support batch, before any step."""
    query_loss: float
    """Loss of the last query batch, before the step on it; for fomaml and maml the mean over the query batches."""
    adapted: Parameters
    """θ_i."""


def task_update(
    parameters: Parameters,
    loss_function: LossFunction,
    episode: Episode,
    config: MetaConfig,
    start: Parameters | None = None,
) -> TaskUpdate:
    """Learn one task from `start` (the shared `parameters` by default) and say where it would move them."""
    if config.algorithm == "bilevel":
        learned, losses = inner_loop(
            start or parameters, loss_function, in_turn(episode.support, episode.query), config, episode.task
        )
        update = {name: parameters[name] - learned[name] for name in parameters}
        return TaskUpdate(update, losses[0], losses[-1], learned)
    second_order = config.algorithm == "maml"
    origin = {name: tensor.detach().requires_grad_(second_order) for name, tensor in parameters.items()}
    learned, losses = inner_loop(origin, loss_function, episode.support, config, episode.task, second_order)
    if not second_order:
        learned = {name: tensor.detach().requires_grad_() for name, tensor in learned.items()}
    query_losses = [loss_function(learned, images, quality) for images, quality in episode.query]
    query_loss = torch.stack(query_losses).mean()
    gradients = _gradients(query_loss, origin if second_order else learned, episode.task, "query")
    adapted = {name: tensor.detach() for name, tensor in learned.items()}
    return TaskUpdate(gradients, losses[0], float(query_loss.detach()), adapted)


def in_turn(support: Sequence[LabelledBatch], query: Sequence[LabelledBatch]) -> list[LabelledBatch]:
    """Support, query, support, query, …: as many of each as there are support batches; queries start over."""
    return [batch for i, given in enumerate(support) for batch in (given, query[i % len(query)])]


def inner_loop(
    start: Parameters,
    loss_function: LossFunction,
    batches: Sequence[LabelledBatch],
    config: MetaConfig,
    task: str,
    differentiable: bool = False,
) -> tuple[Parameters, list[float]]:
    """Optimizer steps over `batches`, functionally: new parameters and the loss before each step."""
    optimizer = FunctionalAdam(config.inner_lr) if config.inner_optimizer == "adam" else FunctionalSgd(config.inner_lr)
    parameters, losses = start, []
    for images, quality in batches:
        if not differentiable:
            parameters = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        loss = loss_function(parameters, images, quality)
        gradients = _gradients(loss, parameters, task, "inner", create_graph=differentiable)
        parameters = optimizer.step(parameters, gradients)
        losses.append(float(loss.detach()))
    return parameters if differentiable else {n: t.detach() for n, t in parameters.items()}, losses


class FunctionalSgd:
    """Plain gradient descent on a dict; differentiable."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def step(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        return {name: tensor - self.lr * gradients[name] for name, tensor in parameters.items()}


class FunctionalAdam:
    """torch.optim.Adam's update on a dict, with fresh moments for each task; not for second-order use."""

    def __init__(self, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self.count = 0
        self.first: Parameters = {}
        self.second: Parameters = {}

    @torch.no_grad()
    def step(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        self.count += 1
        beta1, beta2 = self.betas
        step_size = self.lr / (1 - beta1**self.count)
        second_scale = math.sqrt(1 - beta2**self.count)
        stepped = {}
        for name, gradient in gradients.items():
            first = self.first.setdefault(name, torch.zeros_like(gradient))
            second = self.second.setdefault(name, torch.zeros_like(gradient))
            first.lerp_(gradient, 1 - beta1)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            denominator = second.sqrt().div_(second_scale).add_(self.eps)
            stepped[name] = torch.addcdiv(parameters[name], first, denominator, value=-step_size)
        return stepped


class UpdateSum:
    """Sum of task updates in float64, so that neither the order of tasks nor their spread over workers shows.

    All workers must lay the tensors one behind the other in the same order: that of their names, since the order of a
    dict that was read from a file may be another in every process.
    """

    def __init__(self, like: Mapping[str, Tensor]) -> None:
        self.names = sorted(like)
        self.shapes = [like[name].shape for name in self.names]
        size = sum(like[name].numel() for name in self.names)
        device = like[self.names[0]].device
        self.flat = torch.zeros(size + 3, dtype=torch.float64, device=device)
        """All updates, then the number of tasks and the sums of their support and query losses: one all-reduce."""

    def add(self, update: TaskUpdate) -> None:
        scalars = torch.tensor([1.0, update.support_loss, update.query_loss], dtype=torch.float64)
        parts = [update.update[name].detach().reshape(-1).double() for name in self.names]
        self.flat += torch.cat([*parts, scalars.to(self.flat.device)])

    def mean(self) -> tuple[Parameters, float, float]:
        """-> (mean update, mean support loss, mean query loss). ValueError when no task was added anywhere."""
        count, support_loss, query_loss = self.flat[-3:].tolist()
        if count == 0:
            raise ValueError("no task was learned in this outer step")
        pieces = (self.flat[:-3] / count).split([shape.numel() for shape in self.shapes])
        mean = {n: piece.view(shape) for n, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}
        return mean, support_loss / count, query_loss / count


def outer_step(parameters: Parameters, mean_update: Mapping[str, Tensor], outer_lr: float) -> Parameters:
    """θ ← θ − β · mean update, computed in float64 and rounded once."""
    return {
        name: (tensor.double() - outer_lr * mean_update[name].double()).to(tensor.dtype)
        for name, tensor in parameters.items()
    }


def _gradients(loss: Tensor, parameters: Parameters, task: str, where: str, create_graph: bool = False) -> Parameters:
    if not torch.isfinite(loss.detach()):
        raise NonFiniteLossError(f"{where} loss of task '{task}' is {float(loss.detach())}; nothing was moved by it")
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=create_graph)
    for name, gradient in zip(parameters, gradients, strict=True):
        if not torch.isfinite(gradient.detach()).all():
            raise NonFiniteLossError(f"{where} gradient of '{name}' in task '{task}' is not finite; nothing was moved")
    return dict(zip(parameters, gradients, strict=True))


@dataclass(frozen=True)
class MetaState:
    """Everything that an interrupted pre-training needs to go on: there is no random state, draws follow the step."""

    step: int
    """Outer steps done."""
    parameters: Parameters
    drifted: Parameters | None = None
    """The task model of `resync: never`."""


@dataclass(frozen=True)
class OuterRecord:
    step: int
    support_loss: float
    """Mean over tasks, before adapting to the task."""
    query_loss: float
    """Mean over tasks of the last query batch (held-out references), after all inner steps before it."""


def check_workers(config: MetaConfig, world_size: int) -> None:
    """InputError when so many workers cannot share the work."""
    if config.resync == "never" and world_size > 1:
        raise InputError(f"meta.resync never passes one task model from task to task: use 1 worker, not {world_size}")


def meta_train(
    state: MetaState,
    loss_function: LossFunction,
    episodes_of: Callable[[int], Iterable[Episode]],
    config: MetaConfig,
    *,
    world_size: int = 1,
    reduce: Callable[[Tensor], None] = lambda flat: None,
) -> Iterator[tuple[OuterRecord, MetaState]]:
    """Yield the state after each remaining outer step. All workers end every step with the same parameters.

    Args:
        episodes_of: outer step -> the episodes that *this* worker learns.
        reduce: sums a tensor over all workers, in place.

    Raises NonFiniteLossError before anything is moved by a loss that is not finite.
    """
    check_workers(config, world_size)
    parameters, drifted = state.parameters, state.drifted
    for step in range(state.step, config.outer_steps):
        total = UpdateSum(parameters)
        for episode in episodes_of(step):
            try:
                update = task_update(parameters, loss_function, episode, config, start=drifted)
            except NonFiniteLossError as error:
                raise NonFiniteLossError(f"outer step {step + 1}: {error}") from error
            drifted = update.adapted if config.resync == "never" else None
            total.add(update)
        reduce(total.flat)
        mean_update, support_loss, query_loss = total.mean()
        parameters = outer_step(parameters, mean_update, config.outer_lr)
        yield OuterRecord(step + 1, support_loss, query_loss), MetaState(step + 1, parameters, drifted)
