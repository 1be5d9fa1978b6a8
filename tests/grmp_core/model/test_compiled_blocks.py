"""Compiled blocks compute what they compute as they are: steps of pre-training and adaptation, and scores.

The backend is `aot_eager`, which traces and splits the graph into forward and backward as `inductor` does, and needs no
C++ compiler.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._dynamo.config
import torch._functorch.config

from grmp_core.learning.few_shot import AdaptationBatch, adaptation_step, predict_quality
from grmp_core.learning.labelled_views import prepare_views
from grmp_core.learning.losses import quality_loss
from grmp_core.learning.settings import AdaptConfig, QgrConfig
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import PromptConfig, TrainableConfig

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
"""torch.compile itself looks at it."""

VIEWS = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32, 3), dtype=np.uint8)
QUALITY = torch.tensor([0.1, 0.4, 0.6, 0.9])
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def both(make_backbone):
    """The same model without and with compiled blocks; the settings of torch.compile are as before afterwards."""
    trainable, compilers = TrainableConfig(vision_blocks=1, text_blocks=1), (None, "aot_eager")
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=8), torch._functorch.config.patch(donated_buffer=True):
        yield [
            QualityModel(make_backbone(), PromptConfig(visual_tokens=3), trainable=trainable, compiler=compiler)
            for compiler in compilers
        ]
    torch.compiler.reset()


@pytest.fixture
def frames(monkeypatch):
    """Counts what torch.compile has compiled, so that a test does not compare a thing with itself."""
    from torch._dynamo.utils import counters

    counters.clear()
    return counters["stats"]


def test_gradients_of_the_prompts_are_the_same(both, frames):
    found = []
    for model in both:
        leaves = {name: t.clone().requires_grad_() for name, t in model.prompt_parameters().items()}
        loss = quality_loss(model.predict(leaves, torch.from_numpy(VIEWS[:, 0])).quality_logits_BK, QUALITY)
        found.append([loss, *torch.autograd.grad(loss, list(leaves.values()))])
    torch.testing.assert_close(found[0], found[1], **CLOSE)
    assert all(bool(gradient.any()) for gradient in found[0][1:])
    assert frames["unique_graphs"] >= 2  # an image block and a text block


def test_an_adaptation_step_and_its_scores_are_the_same(both, frames):
    """With regularization two backward passes go through one forward pass."""
    config, found = AdaptConfig(lr=1.0, qgr=QgrConfig(strength=5.0)), []
    for model in both:
        start = model.prompt_parameters()
        views = prepare_views(model, start, VIEWS, VIEWS, QUALITY.numpy(), list("abcd"))
        rows = torch.arange(4)
        batch = AdaptationBatch.gather(views, rows, torch.zeros_like(rows))
        parameters, report = adaptation_step(model, model.adaptable_parameters(start), batch, config)
        scores = predict_quality(model, parameters, views.score_tokens_NGTD)
        found.append((parameters, scores, torch.tensor(report)))
    torch.testing.assert_close(found[0], found[1], **CLOSE)
    assert frames["unique_graphs"] >= 2
