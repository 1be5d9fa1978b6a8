"""Meta-learning against the closed form of a two-parameter quadratic, in float64."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from grmp_core.errors import InputError, NonFiniteLossError
from grmp_core.learning.meta_pretraining import (
    Episode,
    FunctionalAdam,
    MetaState,
    TaskUpdate,
    UpdateSum,
    inner_loop,
    meta_train,
    outer_step,
    task_update,
)
from grmp_core.learning.settings import MetaConfig

THETA = torch.tensor([1.0, -2.0], dtype=torch.float64)
CURVATURE = torch.tensor([2.0, 0.5], dtype=torch.float64)
SUPPORT = torch.tensor([0.3, 0.7], dtype=torch.float64)
QUERY = torch.tensor([-1.1, 0.4], dtype=torch.float64)
LR = 0.1


def loss(parameters, images, quality):
    """½ Σ a (θ − c)²: its gradient is a (θ − c), a step of gradient descent θ − lr a (θ − c)."""
    return 0.5 * (CURVATURE * (parameters["w"] - images) ** 2).sum() + 0 * quality.sum()


def episode(support=(SUPPORT,), query=(QUERY,), task="blur") -> Episode:
    label = torch.zeros(1, dtype=torch.float64)
    return Episode(task, [(c, label) for c in support], [(c, label) for c in query])


def sgd(**changes) -> MetaConfig:
    return MetaConfig(**{"inner_optimizer": "sgd", "inner_lr": LR, "outer_lr": 0.5, **changes})


def contraction(theta: torch.Tensor, target: torch.Tensor, steps: int) -> torch.Tensor:
    """Closed form of `steps` gradient steps towards `target`."""
    return target + (1 - LR * CURVATURE) ** steps * (theta - target)


@pytest.mark.parametrize("steps", [1, 3])
def test_bilevel_takes_support_and_query_batches_in_turn(steps):
    batches = episode((SUPPORT,) * steps, (QUERY,) * steps)
    update = task_update({"w": THETA}, loss, batches, sgd())
    adapted = THETA
    for _ in range(steps):
        adapted = contraction(contraction(adapted, SUPPORT, 1), QUERY, 1)
    torch.testing.assert_close(update.update["w"], THETA - adapted)
    torch.testing.assert_close(update.adapted["w"], adapted)


def test_query_batches_start_over_where_they_are_fewer():
    update = task_update({"w": THETA}, loss, episode((SUPPORT, -SUPPORT, 2 * SUPPORT), (QUERY, -QUERY)), sgd())
    adapted = THETA
    for target in (SUPPORT, QUERY, -SUPPORT, -QUERY, 2 * SUPPORT, QUERY):
        adapted = contraction(adapted, target, 1)
    torch.testing.assert_close(update.adapted["w"], adapted)


@pytest.mark.parametrize("steps", [1, 3])
def test_fomaml_is_the_query_gradient_at_the_adapted_point(steps):
    update = task_update({"w": THETA}, loss, episode((SUPPORT,) * steps), sgd(algorithm="fomaml"))
    torch.testing.assert_close(update.update["w"], CURVATURE * (contraction(THETA, SUPPORT, steps) - QUERY))


@pytest.mark.parametrize("steps", [1, 3])
def test_maml_carries_the_gradient_through_the_inner_steps(steps):
    update = task_update({"w": THETA}, loss, episode((SUPPORT,) * steps), sgd(algorithm="maml"))
    through = (1 - LR * CURVATURE) ** steps
    expected = through * CURVATURE * (contraction(THETA, SUPPORT, steps) - QUERY)
    torch.testing.assert_close(update.update["w"], expected)


def test_outer_step_moves_by_the_mean_update():
    total = UpdateSum({"w": THETA})
    targets = [torch.tensor([float(i), -float(i)], dtype=torch.float64) for i in range(3)]
    for target in targets:
        total.add(task_update({"w": THETA}, loss, episode((target,), (target,)), sgd()))
    mean, _, _ = total.mean()
    moved = outer_step({"w": THETA}, mean, 0.5)["w"]
    adapted = torch.stack([contraction(THETA, target, 2) for target in targets]).mean(dim=0)
    torch.testing.assert_close(moved, THETA + 0.5 * (adapted - THETA))


def test_the_reported_losses_are_before_adapting_and_at_the_query():
    update = task_update({"w": THETA}, loss, episode(), sgd())
    zero = torch.zeros(1)
    assert update.support_loss == pytest.approx(float(loss({"w": THETA}, SUPPORT, zero)))
    assert update.query_loss == pytest.approx(float(loss({"w": contraction(THETA, SUPPORT, 1)}, QUERY, zero)))


def test_functional_adam_makes_torchs_updates():
    ours, parameters = FunctionalAdam(1e-2), {"w": THETA}
    weight = THETA.clone().requires_grad_()
    theirs = torch.optim.Adam([weight], lr=1e-2)
    for target in (SUPPORT, QUERY, SUPPORT, QUERY):
        parameters = ours.step(parameters, {"w": CURVATURE * (parameters["w"] - target)})
        theirs.zero_grad()
        loss({"w": weight}, target, torch.zeros(1)).backward()
        theirs.step()
    torch.testing.assert_close(parameters["w"] - THETA, weight.detach() - THETA, rtol=1e-9, atol=1e-12)


def outcome(order: list[int], workers: int, steps: int = 4) -> torch.Tensor:
    """Prompts after a run whose tasks are visited in `order`, spread over simulated workers."""
    targets = torch.randn(6, 2, generator=torch.Generator().manual_seed(3))
    config = MetaConfig(outer_steps=steps, inner_lr=1e-2, outer_lr=0.5)
    parameters = {"w": THETA.float()}
    for _ in range(steps):
        sums = [UpdateSum(parameters) for _ in range(workers)]
        for i, task in enumerate(order):
            one = episode((targets[task],), (-targets[task],))
            sums[i % workers].add(task_update(parameters, loss, one, config))
        sums[0].flat = sum(s.flat for s in sums)
        parameters = outer_step(parameters, sums[0].mean()[0], config.outer_lr)
    return parameters["w"]


def test_the_order_of_tasks_does_not_matter():
    torch.testing.assert_close(outcome([0, 1, 2, 3, 4, 5], 1), outcome([3, 5, 0, 4, 2, 1], 1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_the_number_of_workers_does_not_matter(workers):
    torch.testing.assert_close(outcome(list(range(6)), 1), outcome(list(range(6)), workers), rtol=1e-6, atol=0)


def test_workers_that_hold_the_tensors_in_another_order_add_up_the_same():
    """A file's tensors come in any order, a different one in every process."""
    update = {"a": torch.arange(3.0), "b": torch.full((2, 2), 7.0)}
    one, other = UpdateSum(update), UpdateSum(dict(reversed(update.items())))
    one.add(TaskUpdate(update, 1.0, 2.0, update))
    other.add(TaskUpdate(update, 1.0, 2.0, update))
    one.flat += other.flat  # the all-reduce
    mean, support_loss, query_loss = one.mean()
    assert (support_loss, query_loss) == (1.0, 2.0)
    assert all(torch.equal(mean[name], tensor.double()) for name, tensor in update.items())


def run(config: MetaConfig, state: MetaState, stop: int | None = None) -> MetaState:
    def episodes_of(step: int):
        generator = torch.Generator().manual_seed(step)
        for task in ("a", "b", "c"):
            support, query = torch.randn(2, 2, generator=generator)
            yield episode((support,), (query,), task)

    for _, reached in meta_train(state, loss, episodes_of, config):
        state = reached
        if state.step == stop:
            break
    return state


@pytest.mark.parametrize("resync", ["task", "never"])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(resync):
    config = MetaConfig(outer_steps=7, inner_lr=0.05, outer_lr=0.3, resync=resync)
    start = MetaState(0, {"w": THETA.float()})
    whole = run(config, start)
    parts = run(config, run(config, start, stop=3))
    assert torch.equal(whole.parameters["w"], parts.parameters["w"])
    assert not torch.equal(whole.parameters["w"], start.parameters["w"])


def test_resync_never_lets_one_task_start_where_the_last_one_ended():
    config = sgd(outer_steps=1, resync="never")
    state = run(config, MetaState(0, {"w": THETA.float()}))
    fresh = run(dataclasses.replace(config, resync="task"), MetaState(0, {"w": THETA.float()}))
    assert state.drifted is not None
    assert fresh.drifted is None
    assert not torch.equal(state.parameters["w"], fresh.parameters["w"])
    with pytest.raises(InputError, match="use 1 worker"):
        next(meta_train(state, loss, lambda step: [], config, world_size=2))


def test_a_loss_that_is_not_finite_stops_before_anything_moves():
    def broken(parameters, images, quality):
        return loss(parameters, images, quality) * float("nan")

    with pytest.raises(NonFiniteLossError, match="task 'blur'"):
        inner_loop({"w": THETA}, broken, episode().support, sgd(), "blur")


@pytest.mark.parametrize(
    "bad",
    [
        {"outer_steps": 0},
        {"batch_size": 0},
        {"tasks_per_step": -1},
        {"algorithm": "maml"},
        {"algorithm": "fomaml", "resync": "never"},
    ],
)
def test_settings_that_do_not_fit_are_refused(bad):
    with pytest.raises(InputError):
        MetaConfig(**bad)
