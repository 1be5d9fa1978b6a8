"""A student: its scores, and its learning."""

from __future__ import annotations

import pytest
import torch

from grmp_core.distilling.student import Learner, bundle_size, check_smaller, new_student, predicted_quality, tower_size
from grmp_core.errors import InputError
from grmp_core.model.bundle import read_bundle
from grmp_core.model.ensemble import joined
from grmp_core.model.predictor import Predictor
from grmp_core.storage import locate


def test_a_new_student_scores_as_its_backbone_does_and_all_of_its_tower_learns(make_backbone):
    model, learned = new_student(make_backbone(), "fp32")
    views = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    for tensor in learned.values():
        tensor.requires_grad_()
    predicted = predicted_quality(model, learned, views)
    gradients = torch.autograd.grad(predicted.sum(), list(learned.values()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    torch.testing.assert_close(predicted.detach(), Predictor(model, {})(views))


def test_steps_are_adamws_at_a_rate_that_warms_up_and_falls_to_nothing():
    start, gradients = torch.tensor([1.0, -2.0, 3.0]), [torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.1, 0.2, -0.3])]
    learner = Learner({"a": start[:2].clone(), "b": start[2:].clone()}, lr=0.1, steps=2)
    expected = start.clone().requires_grad_()
    reference = torch.optim.AdamW([expected], lr=0.1, weight_decay=0.01)
    for number, (gradient, rate) in enumerate(zip(gradients, (0.1 / 50, 0.1 * 2 / 50 * 0.5), strict=True)):
        learner.step(number, gradient)
        reference.param_groups[0]["lr"], expected.grad = rate, gradient
        reference.step()
    tensors = learner.tensors()
    torch.testing.assert_close(torch.cat([tensors["a"], tensors["b"]]), expected.detach())


def test_a_loss_that_is_not_finite_moves_nothing():
    learner = Learner({"a": torch.ones(2)}, lr=0.1, steps=2)
    with pytest.raises(InputError, match=r"not finite at step 1; lower distil\.lr"):
        learner.step(0, torch.tensor([1.0, float("nan")]))
    assert learner.tensors()["a"].tolist() == [1, 1]


def test_a_student_may_be_as_large_as_its_teacher_but_not_larger(make_backbone, unadapted_folder):
    backbone, bundle = make_backbone(), read_bundle(locate(unadapted_folder))
    own = sum(p.numel() for p in backbone.clip.visual.parameters())
    assert tower_size(backbone) == own
    beside = bundle_size(bundle, backbone) - own
    assert beside == sum(t.numel() for t in bundle.parameters.values())
    bundle.parameters.update(joined([{}, {}, {}], [0.5, 0.25, 0.25]))
    assert bundle_size(bundle, backbone) >= 3 * own
    check_smaller(own, own, ("s", "t"))
    check_smaller(own, None, ("s", "t"))
    with pytest.raises(InputError, match=r"student s has 11 parameters, its teacher t only 10; .* distil\.student"):
        check_smaller(11, 10, ("s", "t"))
