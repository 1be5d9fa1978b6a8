"""One meta-training step and one adaptation step on ViT-B/16 shapes against the plain float32 reference.

    python -m tests.benchmarks.bench_steps [--batch 16] [--repeats 3] [--threads 2]

Random weights, all variants interleaved in one process; medians, and ratios to the plain reference of the same run.
The plain reference (tests/reference.py) is the same mathematics without the savings; the tests check that gradients
agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import open_clip
import torch

from grmp_core.learning.few_shot import AdaptationBatch, adaptation_step, prepare_views
from grmp_core.learning.gradient_projection import regularize
from grmp_core.learning.losses import quality_loss
from grmp_core.learning.meta_pretraining import FunctionalAdam, inner_loop
from grmp_core.learning.settings import AdaptConfig, MetaConfig, QgrConfig
from grmp_core.model.backbone import OPENAI_MEAN, OPENAI_STD, Backbone
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import BackboneConfig, PromptConfig, TrainableConfig
from grmp_core.model.towers import fuse_activations
from tests.reference import PlainModel, plain_adaptation_gradients, split_prompts

NAME = "ViT-B-16-quickgelu"


def fresh_clip() -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.create_model(NAME, load_weights=False).eval().requires_grad_(False)


def our_model(precision: str) -> QualityModel:
    clip = fresh_clip()
    fuse_activations(clip)
    tokenize = open_clip.get_tokenizer(NAME)
    backbone = Backbone(clip, tokenize, BackboneConfig(name=NAME), 224, OPENAI_MEAN, OPENAI_STD, "random")
    return QualityModel(backbone, PromptConfig(), precision=precision, trainable=TrainableConfig())


def plain_model() -> PlainModel:
    return PlainModel(fresh_clip(), open_clip.get_tokenizer(NAME), OPENAI_MEAN, OPENAI_STD, 4, PromptConfig().phrases)


def plain_meta_step(model: PlainModel, start: dict[str, torch.Tensor], views: torch.Tensor, quality: torch.Tensor):
    def step() -> None:
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
        prompts, context = split_prompts(leaves)
        probability = model.quality_logits(views, prompts, context).softmax(-1)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy(probability, quality)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        FunctionalAdam(1e-4).step(leaves, dict(zip(leaves, gradients, strict=True)))

    return step


def our_meta_step(model: QualityModel, start: dict[str, torch.Tensor], views: torch.Tensor, quality: torch.Tensor):
    def loss_function(parameters, images, labels):
        return quality_loss(model.predict(parameters, images).quality_logits_BK, labels)

    return lambda: inner_loop(start, loss_function, [(views, quality)], MetaConfig(), "benchmark")


def plain_adaptation_step(start: dict[str, torch.Tensor], names: list[str], views: torch.Tensor, quality: torch.Tensor):
    student, teacher = plain_model(), plain_model()
    prompts, context = split_prompts(start)

    def step() -> None:
        both = plain_adaptation_gradients(student, teacher, views, quality, prompts, context.clone(), names)
        regularize(*both, QgrConfig())

    return step


def our_adaptation_step(model: QualityModel, start: dict[str, torch.Tensor], views: np.ndarray, quality: torch.Tensor):
    parameters = model.adaptable_parameters(start)
    ids = [str(i) for i in range(len(views))]
    cached = prepare_views(model, start, views[:, None], views[:1, None].repeat(len(views), 0), quality.numpy(), ids)
    rows = torch.arange(len(views))
    batch = AdaptationBatch.gather(cached, rows, torch.zeros_like(rows))
    return lambda: adaptation_step(model, parameters, batch, AdaptConfig())


def measure(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, interleaved, after one round of warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def show(title: str, medians: dict[str, float]) -> None:
    plain = next(iter(medians.values()))
    print(f"\n{title}")
    for name, seconds in medians.items():
        print(f"  {name:<28} {seconds:7.2f} s   {plain / seconds:5.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    views = np.random.default_rng(0).integers(0, 256, (options.batch, 224, 224, 3), dtype=np.uint8)
    images, quality = torch.from_numpy(views), torch.rand(options.batch)
    models = {precision: our_model(precision) for precision in ("fp32", "bf16")}
    start = models["fp32"].prompt_parameters()
    steps = {"plain fp32": plain_meta_step(plain_model(), start, images, quality)}
    steps |= {p: our_meta_step(model, start, images, quality) for p, model in models.items()}
    show(f"meta-training step, {NAME}, batch {options.batch}", measure(steps, options.repeats))
    names = [n.removeprefix("clip.") for n in models["fp32"].adaptable_parameters(start) if n.startswith("clip.")]
    steps = {"plain fp32": plain_adaptation_step(start, [*names, "context"], images, quality)}
    steps |= {f"{p}, cached prefix": our_adaptation_step(m, start, views, quality) for p, m in models.items()}
    show(f"adaptation step with QGR, {NAME}, batch {options.batch}", measure(steps, options.repeats))


if __name__ == "__main__":
    main()
