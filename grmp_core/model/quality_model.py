"""CLIP with prompts as a quality model: images in, quality in [0,1] out.

The module itself holds the frozen backbone and the prompts it starts from (`put`). What is learned lives outside, in a
dict of float32 tensors named like the module's parameters, and is handed to `predict`: an inner loop, a second-order
gradient, two workers or a checkpoint then are plain functions of that dict.

Shapes: B images, H = W image size, N tokens, D width, E joint embedding, K = 2 class phrases, S scenes, L blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from grmp_core.errors import InputError
from grmp_core.model import low_rank
from grmp_core.model.adapting_parts import CALIBRATION, adapting_prefixes, block_prefixes, first_adapting_block
from grmp_core.model.backbone import Backbone, dtype_of
from grmp_core.model.blocks import compiled, residual_block, run_block
from grmp_core.model.features import normalize
from grmp_core.model.heads import make_head
from grmp_core.model.prompts import FixedText, TextPrompt, VisualPrompt, num_visual_tokens
from grmp_core.model.scene_words import SCENES
from grmp_core.model.settings import HeadConfig, PromptConfig, TrainableConfig
from grmp_core.model.text_tower import open_text_tower
from grmp_core.model.vision_tower import open_vision_tower

Parameters = dict[str, Tensor]

SCENE_TEMPLATE = "a photo of a {}"


class Prediction(NamedTuple):
    quality_logits_BK: Tensor
    scene_logits_BS: Tensor | None
    head_loss: Tensor | None = None
    """Loss of the head itself, added to that of quality; None for heads without one."""


class QualityModel(nn.Module):
    """Frozen CLIP + text prompt + visual prompts.

    Args:
        backbone: float32 weights; they are cast to the precision's type in place, learned tensors stay float32.
        precision: `fp32` or `bf16`, the type of the frozen weights and of all activations.
        seed: of the initial prompts.
        trainable: what few-shot adaptation will move; null where nothing adapts (pre-training, scoring).
        compiler: backend of torch.compile for the blocks of both towers, such as `inductor`; null: none is compiled.
            What it compiles cannot be differentiated twice.
        head: in the place of the image tower's pooling for the quality; scenes always have the pooling.

    Raises InputError for prompts or a head that do not fit the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        prompts: PromptConfig,
        *,
        precision: str = "fp32",
        seed: int = 0,
        trainable: TrainableConfig | None = None,
        head: HeadConfig | None = None,
        compiler: str | None = None,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype_of(precision)
        self.image_size_px = backbone.image_size_px
        self.clip = backbone.clip
        self.vision_tower = open_vision_tower(backbone.clip)
        self.text_tower = open_text_tower(backbone.clip)
        if compiler is not None:
            self.vision_tower.run_block = compiled(run_block, compiler)
            self.text_tower.residual_block = compiled(residual_block, compiler)
        self.text_prompt = TextPrompt(prompts, backbone.tokenize, self.text_tower, generator)
        self.scene_text = FixedText([SCENE_TEMPLATE.format(s) for s in SCENES], backbone.tokenize, self.text_tower)
        num_tokens = num_visual_tokens(prompts, self.vision_tower)
        patch_size_px = int((getattr(backbone.clip.visual, "patch_size", None) or (16, 16))[0])
        self.visual_prompt = (
            VisualPrompt(
                num_tokens,
                self.vision_tower,
                patch_size_px,
                generator,
                with_norm=prompts.prompt_norm,
                coupled_width=self.text_tower.width if prompts.coupled else 0,
            )
            if num_tokens
            else None
        )
        self.head = make_head(head or HeadConfig(), self.vision_tower, generator)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)
        self.calibration_2 = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.scale = float(backbone.clip.get_parameter("logit_scale").detach().float().exp())
        towers = self.vision_tower, self.text_tower
        prefixes = adapting_prefixes(self, trainable, *towers) if trainable is not None else ()
        self._adaptable = [n for n, _ in self.named_parameters() if n.startswith(prefixes)]
        self._seed, self._rank, self._low_rank = seed, 0, tuple[str, ...]()
        if trainable is not None and trainable.lora_rank > 0:
            blocks = block_prefixes(trainable, *towers)
            self._rank = trainable.lora_rank
            self._low_rank = tuple(n for n, p in self.named_parameters() if n.startswith(blocks) and p.dim() == 2)
            self._adaptable = [n for n in self._adaptable if not n.startswith(blocks)]
        coupled = self.visual_prompt is not None and self.visual_prompt.coupling_LDC is not None
        self._first_adapting_block = first_adapting_block(trainable, self.vision_tower, coupled=coupled)
        self._masters = {  # the float32 originals of what may be learned; all else is held in the narrow type only
            n: p.detach().clone()
            for n, p in self.named_parameters()
            if not n.startswith("clip.") or n in {*self._adaptable, *self._low_rank}
        }
        self.requires_grad_(False).eval().to(self.dtype)
        self.calibration_2.data = self.calibration_2.data.float()

    @property
    def device(self) -> torch.device:
        return self.mean.device

    # --- what is learned -------------------------------------------------------------------------------------------

    def prompt_parameters(self) -> Parameters:
        """Float32 copies of the prompts' initial values: what meta-prompt pre-training learns."""
        prompts = ("text_prompt.", "visual_prompt.")
        return {n: t.clone().to(self.device) for n, t in self._masters.items() if n.startswith(prompts)}

    def adaptable_parameters(self, learned: Mapping[str, Tensor]) -> Parameters:
        """Float32 copies of what few-shot adaptation moves, from `learned` where it has them, else the originals.

        With `lora_rank` the weight matrices of the blocks are those of `put`, and pairs of `low_rank` move them."""
        self.check_parameters(learned)
        if not self._adaptable and not self._low_rank:
            raise InputError("adapt.trainable switches everything off: nothing would be learned; switch a part on")
        pairs = low_rank.initial_pairs(self._matrices(), self._rank, torch.Generator().manual_seed(self._seed))
        moved = {n: learned.get(n, self._masters[n]).detach().clone() for n in self._adaptable}
        return {n: tensor.to(self.device) for n, tensor in (moved | pairs).items()}

    def merged(self, parameters: Mapping[str, Tensor]) -> Parameters:
        """The same model without low-rank pairs: whole weight matrices in their place, named like the module's."""
        return low_rank.merged({n: t.to(self.device) for n, t in parameters.items()}, self._matrices())

    def _matrices(self) -> Parameters:
        """The float32 weights that low-rank updates are added to."""
        for name in self._low_rank:
            self._masters[name] = self._masters[name].to(self.device)  # once: every step reads them
        return {name: self._masters[name] for name in self._low_rank}

    @property
    def first_adapting_block(self) -> int:
        """Image blocks before this one give the same tokens for a view for the whole of an adaptation."""
        return self._first_adapting_block

    def check_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """InputError for a name or shape that this model does not have."""
        own = dict(self.named_parameters())
        for name, tensor in parameters.items():
            if name not in own:
                raise InputError(f"learned tensor '{name}' has no place in this model: it is from another backbone")
            if own[name].shape != tensor.shape:
                raise InputError(
                    f"learned tensor '{name}' has shape {tuple(tensor.shape)}, this model wants "
                    f"{tuple(own[name].shape)}: use the backbone and prompt sizes it was made with"
                )

    def put(self, learned: Mapping[str, Tensor]) -> None:
        """Make `learned` the values that hold wherever a call gives no others: frozen prompts of an adaptation, or a
        finished model's tensors. InputError for tensors that do not fit."""
        self.check_parameters(learned)
        own = dict(self.named_parameters())
        with torch.no_grad():
            for name, tensor in learned.items():
                own[name].copy_(tensor)
                if name in self._masters:
                    self._masters[name] = tensor.detach().float().clone()

    # --- what is computed ------------------------------------------------------------------------------------------

    def predict(
        self,
        parameters: Mapping[str, Tensor],
        inputs: Tensor,
        *,
        start_block: int = 0,
        scenes: bool = False,
        noise_seed: int | None = None,
    ) -> Prediction:
        """Logits with the learned tensors `parameters` put in, low-rank pairs merged; differentiable twice.

        The tensors may be on another device than the model.

        Args:
            inputs: uint8 views (B, H, W, 3) if start_block is 0, else tokens (B, N, D) from `prefix_tokens`.
            scenes: also give the scene logits; one pass of the image tower serves both.
            noise_seed: of a head that learns from noise; null in scoring.
        """
        whole = self.merged(parameters)
        narrow = {name: t if name == CALIBRATION else t.to(self.dtype) for name, t in whole.items()}
        return functional_call(self, narrow, (inputs, start_block, scenes, noise_seed))

    def forward(
        self, inputs: Tensor, start_block: int = 0, scenes: bool = False, noise_seed: int | None = None
    ) -> Prediction:
        tokens_BND = self.vision_tower.embed(self.normalize(inputs)) if inputs.dtype == torch.uint8 else inputs
        tokens_BND = self._after_blocks(tokens_BND, start_block)
        quality_BK, head_loss = self._quality_logits(tokens_BND, unit(self.text_prompt()), noise_seed)
        scenes_BS = None
        if scenes:
            scenes_BS = self.scale * unit(self.vision_tower.finish(tokens_BND)) @ unit(self.scene_text()).T
        return Prediction(quality_BK, scenes_BS, head_loss)

    def view_quality(self, tokens_BND: Tensor, text_KE: Tensor) -> Tensor:
        """Tokens in front of block 0 and the unit features of the class phrases -> (B,) quality in [0, 1], float32."""
        return self._quality_logits(self._after_blocks(tokens_BND), text_KE)[0].softmax(dim=-1)[:, 0]

    def _quality_logits(
        self, tokens_BND: Tensor, text_KE: Tensor, noise_seed: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Calibrated logits (B, K) of tokens after the last block, and the loss of the head where it has one."""
        if self.head is None:
            return self.calibrated(self.scale * unit(self.vision_tower.finish(tokens_BND)) @ text_KE.T), None
        votes_BVD, loss = self.head(self.vision_tower, tokens_BND, noise_seed)
        votes_BVK = self.scale * unit(self.vision_tower.project(votes_BVD)) @ text_KE.T
        return self.calibrated(votes_BVK.mean(dim=1)), loss

    def calibrated(self, quality_logits_BK: Tensor) -> Tensor:
        """The logits times the calibration's scale, the offset added to their difference."""
        scale, offset = self.calibration_2
        return scale * quality_logits_BK + torch.stack([offset, -offset]) / 2

    def image_features(self, tokens_BND: Tensor, start_block: int = 0, *, prompted: bool = True) -> Tensor:
        """Tokens before `start_block` -> (B, E) unit features, float32."""
        return unit(self.vision_tower.finish(self._after_blocks(tokens_BND, start_block, prompted=prompted)))

    def _after_blocks(self, tokens_BND: Tensor, start_block: int = 0, *, prompted: bool = True) -> Tensor:
        visual_prompt = self.visual_prompt if prompted else None
        prompts_LVD = None if visual_prompt is None else visual_prompt(self.text_prompt.context_MD)
        tokens_BND = self.vision_tower.run(tokens_BND, prompts_LVD, start_block)
        return tokens_BND if visual_prompt is None else visual_prompt.finish(tokens_BND)

    def normalize(self, views_BHWC: Tensor) -> Tensor:
        """uint8 views -> (B, 3, H, W) in the model's type, by the backbone's own mean and std."""
        return normalize(views_BHWC.to(self.device), self.mean, self.std).to(self.dtype)

    def standardize(self, images_BCHW: Tensor) -> Tensor:
        """float32 images in [0, 1] -> the model's type, by the backbone's own mean and std."""
        return ((images_BCHW - self.mean.float()) / self.std.float()).to(self.dtype)

    @torch.no_grad()
    def embed(self, inputs: Tensor) -> Tensor:
        """uint8 views (B, H, W, 3) -> tokens (B, N, D) in front of block 0; such tokens stay as they are."""
        return self.vision_tower.embed(self.normalize(inputs)) if inputs.dtype == torch.uint8 else inputs

    @torch.no_grad()
    def prefix_tokens(self, parameters: Mapping[str, Tensor], inputs: Tensor, stop_block: int) -> Tensor:
        """Tokens (B, N, D) in front of block `stop_block`; the prompts of the blocks before it act.

        inputs: uint8 views, or their tokens in front of block 0.
        """
        return self.vision_tower.run(self.embed(inputs), self.visual_prompts(parameters), 0, stop_block)

    @torch.no_grad()
    def teacher_scene_logits(self, inputs: Tensor) -> Tensor:
        """(B, S) scene logits of the frozen zero-shot CLIP: no learned tensor and no visual prompt takes part.

        inputs: as of `prefix_tokens`.
        """
        return self.scale * self.image_features(self.embed(inputs), prompted=False) @ unit(self.scene_text()).T

    def visual_prompts(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """(L, V, D), the prompt tokens of every image block; null for a model without them."""
        if self.visual_prompt is None:
            return None
        own = {n.removeprefix("visual_prompt."): t for n, t in parameters.items() if n.startswith("visual_prompt.")}
        context_MC = parameters.get("text_prompt.context_MD", self.text_prompt.context_MD)
        narrow = {n: t.to(self.device, self.dtype) for n, t in own.items()}
        return functional_call(self.visual_prompt, narrow, (context_MC.to(self.device, self.dtype),))


def unit(features: Tensor) -> Tensor:
    """Rows scaled to length one, in float32."""
    return F.normalize(features.float(), dim=-1)
