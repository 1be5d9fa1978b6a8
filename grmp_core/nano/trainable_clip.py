"""grmp-nano as it is trained: few rows of the token table, the stem's features standardized, its early part frozen.

Shapes: B images, K sentences, E joint embedding, M placeholder tokens, D text width, C token numbers of a sentence,
U token numbers in use, V visual prompt tokens per block, L blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.nano_stem import LiteTokens, folded_state
from grmp_core.model.nano_trunk import MODEL_CONFIG
from grmp_core.model.text_tower import open_text_tower
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.nano.teacher import normalize_clip

_FROZEN_STEM = ("first.", "stages.0.", "stages.1.0.")
"""The stem's part at half and full resolution: its edge filters hardly move, and their gradient is the dearest."""


class TrainableClip(nn.Module):
    """grmp-nano whose token table holds the rows of the tokens in use only.

    Args:
        used_tokens: token numbers that sentences may hold; any other raises at `forward`.
        start_weights: state dict of EfficientNet-Lite0 for the stem; None leaves it random.
    """

    clip: Any
    row_of_token: Tensor

    def __init__(self, used_tokens: Tensor, start_weights: Mapping[str, Tensor] | None, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.clip = open_clip.CLIP(**MODEL_CONFIG)
        self.vision, self.text = open_vision_tower(self.clip), open_text_tower(self.clip)
        if start_weights is not None:
            self.stem.load_state_dict(folded_state(start_weights), strict=False)
        self.clip.to(memory_format=torch.channels_last)
        tokens_U = used_tokens.unique()
        self.rows_UD = nn.Parameter(self.clip.token_embedding.weight.detach()[tokens_U].clone())
        self.clip.token_embedding.weight.requires_grad_(False).zero_()
        row_of_token = torch.full((len(self.clip.token_embedding.weight),), -1)
        row_of_token[tokens_U] = torch.arange(len(tokens_U))
        self.register_buffer("row_of_token", row_of_token, persistent=False)

    @property
    def stem(self) -> LiteTokens:
        return self.clip.visual.trunk.patch_embed

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters but the early stem's and the token table's, by name."""
        prefix = "clip.visual.trunk.patch_embed."
        frozen = (*(prefix + name for name in _FROZEN_STEM), "clip.token_embedding.")
        return {name: p for name, p in self.named_parameters() if not name.startswith(frozen)}

    @torch.no_grad()
    def standardize_stem(self, images_BHWC: Tensor) -> None:
        """Set the stem's center and scale to those of the cells of `images`."""
        cells = self.stem.cells(normalize_clip(images_BHWC)).flatten(0, 1)
        self.stem.center_F.copy_(cells.mean(dim=0))
        self.stem.scale_F.copy_(1 / (cells.std(dim=0) + 1e-2))

    def forward(
        self, images_BHWC: Tensor, tokens_KC: Tensor, learned_KMD: Tensor | None, prompts_LVD: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """uint8 images and token numbers -> unit features (B, E) and (K, E), float32.

        `learned_KMD`: embeddings in the place of the M tokens behind the first one, for each sentence or NaN for none;
        `prompts_LVD`: visual prompts.
        """
        return self.image_features(images_BHWC, prompts_LVD), self.text_features(tokens_KC, learned_KMD)

    def image_features(self, images_BHWC: Tensor, prompts_LVD: Tensor | None = None) -> Tensor:
        dtype = self.rows_UD.dtype
        tokens_BND = self.vision.embed(normalize_clip(images_BHWC).to(dtype))
        if prompts_LVD is not None:
            prompts_LVD = prompts_LVD.to(dtype)
        return F.normalize(self.vision.finish(self.vision.run(tokens_BND, prompts_LVD, 0)).float(), dim=-1)

    def text_features(self, tokens_KC: Tensor, learned_KMD: Tensor | None = None) -> Tensor:
        tokens_KC = tokens_KC[:, : self.text.used_length(tokens_KC)]
        rows_KC = self.row_of_token[tokens_KC]
        # Padding lies behind the end token, where a causal tower never looks, so any row will do for it.
        if bool((rows_KC[tokens_KC != 0] < 0).any()):
            raise InputError("a sentence holds a token that is not in the table of used tokens; build it from all")
        embeddings_KCD = self.rows_UD[rows_KC.clamp(min=0)]
        if learned_KMD is not None:
            stop = 1 + learned_KMD.shape[1]
            learned_KMD = learned_KMD.to(embeddings_KCD.dtype)
            inside = torch.where(learned_KMD.isnan(), embeddings_KCD[:, 1:stop], learned_KMD)
            embeddings_KCD = torch.cat([embeddings_KCD[:, :1], inside, embeddings_KCD[:, stop:]], dim=1)
        return F.normalize(self.text.encode(embeddings_KCD, tokens_KC).float(), dim=-1)

    def load_exported(self, state: Mapping[str, Tensor]) -> None:
        """Put in what `export_state` gave; tokens that had no row there keep their random one."""
        state = {name: tensor.float() for name, tensor in state.items()}
        table = state.pop("token_embedding.weight")
        self.clip.load_state_dict(state, strict=False)
        used = (self.row_of_token >= 0) & (table != 0).any(dim=1)
        with torch.no_grad():
            self.rows_UD[self.row_of_token[used]] = table[used]

    def export_state(self) -> dict[str, Tensor]:
        """The open_clip state dict in half precision; rows of tokens never used are zero."""
        state = {name: tensor.detach().clone() for name, tensor in self.clip.state_dict().items()}
        used = self.row_of_token >= 0
        state["token_embedding.weight"][used] = self.rows_UD.detach()[self.row_of_token[used]]
        return {n: t.half().contiguous() if t.is_floating_point() else t for n, t in state.items()}
