"""One meta-training step and one adaptation step on ViT-B/16 shapes against the plain float32 reference.

    python -m tests.benchmarks.bench_steps [--batch 16] [--repeats 3] [--threads 2] [--device cuda] [--compile]

Random weights, all variants interleaved in one process; medians, and ratios to the plain reference of the same run.
The plain reference (tests/reference.py) is the same mathematics without the savings; the tests check that gradients
agree. Beside each step stand the products of matrices that it really does (PyTorch's own count), and what share that is
of the bfloat16 products that the device reaches on large matrices in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from grmp_core.learning.few_shot import AdaptationBatch, adaptation_step
from grmp_core.learning.gradient_projection import regularize
from grmp_core.learning.labelled_views import prepare_views
from grmp_core.learning.losses import quality_loss
from grmp_core.learning.meta_pretraining import FunctionalAdam, inner_loop
from grmp_core.learning.settings import AdaptConfig, MetaConfig, QgrConfig
from grmp_core.model.backbone import OPENAI_MEAN, OPENAI_STD, Backbone
from grmp_core.model.blocks import fuse_activations
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import BackboneConfig, PromptConfig, TrainableConfig
from tests.benchmarks.rows import Row, compared, interleaved
from tests.reference import PlainModel, plain_adaptation_gradients, split_prompts

NAME = "ViT-B-16-quickgelu"
PLAIN = "plain fp32"
COMPILED = "compiled "


def fresh_clip(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.create_model(name, load_weights=False).eval().requires_grad_(False)


def our_model(name: str, precision: str, device: torch.device, compiler: str | None = None) -> QualityModel:
    clip = fresh_clip(name)
    fuse_activations(clip)
    tokenize = open_clip.get_tokenizer(name)
    backbone = Backbone(clip, tokenize, BackboneConfig(name=name), 224, OPENAI_MEAN, OPENAI_STD, "random")
    model = QualityModel(backbone, PromptConfig(), precision=precision, trainable=TrainableConfig(), compiler=compiler)
    return model.to(device)


def plain_model(name: str, device: torch.device) -> PlainModel:
    tokenize = open_clip.get_tokenizer(name)
    return PlainModel(fresh_clip(name), tokenize, OPENAI_MEAN, OPENAI_STD, 4, PromptConfig().phrases).to(device)


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


def plain_adaptation_step(
    models: tuple[PlainModel, PlainModel],
    start: dict[str, torch.Tensor],
    names: list[str],
    views: torch.Tensor,
    quality: torch.Tensor,
):
    student, teacher = models
    prompts, context = split_prompts(start)

    def step() -> None:
        both = plain_adaptation_gradients(student, teacher, views, quality, prompts, context.clone(), names)
        regularize(*both, QgrConfig())

    return step


def our_adaptation_step(model: QualityModel, start: dict[str, torch.Tensor], views: np.ndarray, quality: torch.Tensor):
    parameters = model.adaptable_parameters(start)
    ids = [str(i) for i in range(len(views))]
    cached = prepare_views(
        model, start, views[:, None], views[:1, None].repeat(len(views), 0), quality.cpu().numpy(), ids
    )
    rows = torch.arange(len(views))
    batch = AdaptationBatch.gather(cached, rows, torch.zeros_like(rows))
    return lambda: adaptation_step(model, parameters, batch, AdaptConfig())


class Products(TorchDispatchMode):
    """Counts the floating-point operations of products of matrices, also those of backward passes."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func.overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=output)
        return output


@dataclass(frozen=True)
class Measured:
    seconds: float
    """Median."""
    products: float
    """Floating-point operations of all products of matrices of one step."""


def measure(steps: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, Measured]:
    """Each step, after one round of warming up. A compiled step makes the products of the same without compiling."""
    products = {}
    for name, step in steps.items():
        if name.startswith(COMPILED):
            step()
            products[name] = products[name.removeprefix(COMPILED)]
            continue
        with Products() as counter:
            step()
        products[name] = float(counter.total)
    seconds = interleaved(steps, repeats, clock_of(device), warm=False)
    return {name: Measured(seconds[name], products[name]) for name in steps}


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds, read when the device has done what it was given."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def peak(device: torch.device) -> float:
    """bfloat16 operations per second of a product of large matrices."""
    side = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    return 2 * side**3 / interleaved({"product": lambda: left @ right}, 5, clock_of(device))["product"]


def both_steps(
    backbone: str, batch: int, repeats: int, device: torch.device, compiler: str | None = None
) -> dict[str, dict[str, Measured]]:
    """Kind of step -> variant -> what it takes; the plain reference comes first."""
    views = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    images, quality = torch.from_numpy(views).to(device), torch.rand(batch).to(device)
    models = {precision: our_model(backbone, precision, device) for precision in ("fp32", "bf16")}
    if compiler is not None:
        models |= {f"{COMPILED}{p}": our_model(backbone, p, device, compiler) for p in ("fp32", "bf16")}
    start = models["fp32"].prompt_parameters()
    steps = {PLAIN: plain_meta_step(plain_model(backbone, device), start, images, quality)}
    steps |= {p: our_meta_step(model, start, images, quality) for p, model in models.items()}
    found = {"meta-training step": measure(steps, repeats, device)}
    names = [n.removeprefix("clip.") for n in models["fp32"].adaptable_parameters(start) if n.startswith("clip.")]
    plain = plain_model(backbone, device), plain_model(backbone, device)
    steps = {PLAIN: plain_adaptation_step(plain, start, [*names, "context"], images, quality)}
    steps |= {f"{p}, cached prefix": our_adaptation_step(m, start, views, quality) for p, m in models.items()}
    return {**found, "adaptation step with QGR": measure(steps, repeats, device)}


def rows(quick: bool = False) -> list[Row]:
    backbone, batch = ("ViT-S-32-alt", 1) if quick else (NAME, 16)
    found = []
    for title, variants in both_steps(backbone, batch, 1 if quick else 3, torch.device("cpu")).items():
        seconds = {f"{title}, {backbone}, batch {batch}: {name}": step.seconds for name, step in variants.items()}
        plain, *ours = seconds
        seconds["the same in plain fp32"] = seconds[plain]
        whose = "stand-in for the published code, which is not run: `tests/reference.py`"
        found += [compared(seconds, name, "the same in plain fp32", whose=whose) for name in ours]
    return found


def show(title: str, found: dict[str, Measured], most: float) -> None:
    plain = next(iter(found.values())).seconds
    print(f"\n{title}")
    for name, step in found.items():
        share = step.products / step.seconds / most
        print(
            f"  {name:<28} {step.seconds:8.4f} s   {plain / step.seconds:5.1f} x   "
            f"{step.products / 1e12:6.2f} TFLOP   {share:5.1%} of the peak"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--compile", action="store_true", help="also both precisions with `compile: true`")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device: torch.device = options.device
    most = peak(device)
    print(f"{device_name(device)}: {most / 1e12:.1f} TFLOP/s of bfloat16 products")
    for title, found in both_steps(
        NAME, options.batch, options.repeats, device, "inductor" if options.compile else None
    ).items():
        show(f"{title}, {NAME}, batch {options.batch}", found, most)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
