"""Estimates of memory against real tensors of tiny models: weights, what is learned, and what a backward pass keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from grmp_core.learning.few_shot import AdaptationBatch, adaptation_step
from grmp_core.learning.labelled_views import prepare_views
from grmp_core.learning.settings import AdaptConfig, MetaConfig
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import BackboneConfig, PromptConfig, TrainableConfig
from pipelines.checkup import memory_needs
from pipelines.configuration.schema import Config

BATCH = 8
TOWERS = ["tiny-quickgelu", "tiny-gelu", "tiny-timm"]


def setting(make_backbone, name: str, **adapt) -> tuple[Config, QualityModel]:
    config = Config(
        backbone=BackboneConfig(name=name),
        prompts=PromptConfig(visual_tokens=5),
        meta=MetaConfig(batch_size=BATCH),
        adapt=AdaptConfig(batch_size=BATCH, **adapt),
    )
    return config, QualityModel(make_backbone(name), config.prompts, trainable=config.adapt.trainable)


def square(model: QualityModel) -> tuple[int, int, int]:
    return model.image_size_px, model.image_size_px, 3


class KeptTensors:
    """Bytes of all storages that are saved for a backward pass, without those of the model and of the inputs."""

    def __init__(self, model: QualityModel, *others: torch.Tensor) -> None:
        own = [*model.parameters(), *model.buffers(), *others]
        self.known = {tensor.untyped_storage().data_ptr() for tensor in own}
        self.kept: dict[int, torch.UntypedStorage] = {}

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.kept.values())

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.kept[storage.data_ptr()] = storage
        return tensor

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor)


@pytest.mark.parametrize("name", [*TOWERS, "tiny-resnet"])
def test_weights_and_learned_numbers_are_exact(name, make_backbone):
    prompts = PromptConfig(visual_tokens=0 if name == "tiny-resnet" else 5)
    model = QualityModel(make_backbone(name), prompts)
    shape = memory_needs.model_shape(Config(backbone=BackboneConfig(name=name), prompts=prompts))
    assert shape.values == sum(p.numel() for p in model.clip.parameters())
    assert shape.prompt_values == sum(t.numel() for t in model.prompt_parameters().values())
    assert shape.image_px == model.image_size_px
    assert shape.vision.blocks == len(model.vision_tower.blocks)


@pytest.mark.parametrize("name", TOWERS)
def test_the_numbers_that_adapt_and_the_encoded_target(name, make_backbone):
    config, model = setting(make_backbone, name, trainable=TrainableConfig(vision_blocks=2, text_blocks=1))
    shape = memory_needs.model_shape(config)
    start = model.prompt_parameters()
    adapting = sum(t.numel() for t in model.adaptable_parameters(start).values())
    assert adapting <= memory_needs.adapting_values(shape, config) <= 1.5 * adapting  # prompts count, moved or not
    views = torch.zeros(3 * (config.views.train_views + config.views.score_grid**2), *square(model), dtype=torch.uint8)
    tokens = model.prefix_tokens(start, views, model.first_adapting_block)
    assert memory_needs.encoded_bytes(shape, config, 3) == tokens.numel() * tokens.element_size()


@pytest.mark.parametrize("name", TOWERS)
def test_activations_of_pre_training(name, make_backbone):
    config, model = setting(make_backbone, name)
    views = torch.zeros(BATCH, *square(model), dtype=torch.uint8)
    leaves = {n: t.clone().requires_grad_() for n, t in model.prompt_parameters().items()}
    found = KeptTensors(model, *leaves.values())
    with found.hooks():
        model.predict(leaves, views)
    estimate = memory_needs.pretraining_activations(memory_needs.model_shape(config), config)
    assert 0.9 <= estimate / found.bytes <= 1.5


@pytest.mark.parametrize("name", TOWERS)
def test_activations_of_adaptation(name, make_backbone):
    config, model = setting(make_backbone, name, trainable=TrainableConfig(vision_blocks=2, text_blocks=2))
    start = model.prompt_parameters()
    photos = np.zeros((BATCH, 1, *square(model)), dtype=np.uint8)
    views = prepare_views(model, start, photos, photos, np.linspace(0, 1, BATCH), [str(i) for i in range(BATCH)])
    batch = AdaptationBatch.gather(views, torch.arange(BATCH), torch.zeros(BATCH, dtype=torch.long))
    parameters = model.adaptable_parameters(start)
    found = KeptTensors(model, batch.tokens_BTD, *parameters.values())
    with found.hooks():
        adaptation_step(model, parameters, batch, config.adapt)
    estimate = memory_needs.adaptation_activations(memory_needs.model_shape(config), config)
    assert 0.9 <= estimate / found.bytes <= 1.5


def test_narrow_numbers_take_half_and_second_order_takes_more(make_backbone):
    config, _ = setting(make_backbone, "tiny-quickgelu")
    shape = memory_needs.model_shape(config)
    narrow = dataclasses.replace(config, precision="bf16")
    assert (
        memory_needs.pretraining_activations(shape, narrow) == memory_needs.pretraining_activations(shape, config) / 2
    )
    maml = dataclasses.replace(config, meta=MetaConfig(batch_size=BATCH, algorithm="maml", inner_optimizer="sgd"))
    assert memory_needs.pretraining_activations(shape, maml) > memory_needs.pretraining_activations(shape, config)


def test_a_gpu_takes_the_model_from_main_memory_and_holds_the_images_of_a_trial(make_backbone):
    config, _ = setting(make_backbone, "tiny-quickgelu")
    shape = memory_needs.model_shape(config)
    on_gpu = dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, gpus_per_trial=0.5))
    few, many = (memory_needs.few_shot_trial(shape, on_gpu, 10, tests) for tests in (10, 110))
    score = config.views.score_grid**2
    assert many.gpu_bytes - few.gpu_bytes == memory_needs.encoded_bytes(shape, config, 100, score)
    on_cpu = memory_needs.few_shot_trial(shape, config, 10, 10)
    assert on_cpu.gpu_bytes == 0
    assert few.main_bytes <= on_cpu.main_bytes
