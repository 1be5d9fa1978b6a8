"""The learned prompts: words before the class phrase, and tokens inside the image tower.

Shapes: K class phrases, M context tokens, N text tokens, V visual tokens per block, L blocks, D width of a tower.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.settings import PromptConfig
from grmp_core.model.text_tower import TextTower
from grmp_core.model.vision_tower import VisionTower

PAPER_VISUAL_TOKENS = 100
PAPER_WIDTH = 768


class TextPrompt(nn.Module):
    """M learned vectors in the place of the first M words of every class phrase (CoOp; GRMP-IQA's text prompt)."""

    token_ids_KN: Tensor
    before_KD: Tensor
    after_KD: Tensor

    def __init__(self, config: PromptConfig, tokenize, tower: TextTower, generator: torch.Generator) -> None:
        super().__init__()
        ids_KN, positions = _with_placeholders(config, tokenize)
        length = tower.used_length(ids_KN)
        if positions and positions[-1] >= length:
            raise InputError(
                f"prompts.context_tokens {config.context_tokens} and the class phrases need more than the text tower's "
                f"{tower.context_length} tokens; use fewer"
            )
        self.tower = tower
        self.register_buffer("token_ids_KN", ids_KN[:, :length].contiguous(), persistent=False)
        with torch.no_grad():
            embeddings_KND = tower.token_embeddings(self.token_ids_KN).float()
        first, last = (positions[0], positions[-1] + 1) if positions else (1, 1)
        self.register_buffer("before_KD", embeddings_KND[:, :first].clone(), persistent=False)
        self.register_buffer("after_KD", embeddings_KND[:, last:].clone(), persistent=False)
        if config.context_init is not None:
            context = _context_from_words(config, tokenize, tower, positions)
        else:
            context = torch.empty(config.context_tokens, tower.width).normal_(
                std=config.context_std, generator=generator
            )
        self.context_MD = nn.Parameter(context)

    def forward(self) -> Tensor:
        """-> (K, E) text features, not normalized."""
        context_KMD = self.context_MD.expand(len(self.token_ids_KN), -1, -1)
        dtype = self.context_MD.dtype
        embeddings_KND = torch.cat([self.before_KD.to(dtype), context_KMD, self.after_KD.to(dtype)], dim=1)
        return self.tower.encode(embeddings_KND, self.token_ids_KN)


class FixedText(nn.Module):
    """Sentences without learned words, through the (possibly adapting) text tower."""

    token_ids_SN: Tensor

    def __init__(self, sentences: list[str], tokenize, tower: TextTower) -> None:
        super().__init__()
        ids_SN = tokenize(sentences)
        self.tower = tower
        self.register_buffer("token_ids_SN", ids_SN[:, : tower.used_length(ids_SN)].contiguous(), persistent=False)

    def forward(self) -> Tensor:
        """-> (S, E) text features, not normalized."""
        return self.tower.encode(self.tower.token_embeddings(self.token_ids_SN), self.token_ids_SN)


class VisualPrompt(nn.Module):
    """V learned tokens for each of L blocks, all through one shared linear projection (VPT-deep).

    Different from the published code: prompt entries are not dropped at random while training (published: one in ten),
    which would make runs depend on a random stream, and the projection's bias starts at 0 (published: uniform within
    width^-1/2, .036).

    coupling_LDC: with `prompts.coupled`, maps of text context of width C, zero at first; that of context vector v mod M
    is added to token v. MaPLe (Khattak et al. 2023) has as many tokens as vectors, and no tokens of their own.
    norm: with `prompts.prompt_norm`, a LayerNorm (eps 1e-6) of the tokens after the last block. It stands before the
    tower's own final norm, whose mean and variance are taken of its output, so neither can be folded into the other.
    """

    def __init__(
        self,
        num_tokens: int,
        tower: VisionTower,
        patch_size_px: int,
        generator: torch.Generator,
        *,
        with_norm: bool = False,
        coupled_width: int = 0,
    ) -> None:
        """coupled_width: of the text context that the tokens are coupled with; 0: they are not."""
        super().__init__()
        width = tower.width
        bound = math.sqrt(6 / (3 * patch_size_px**2 + width))  # VPT's initialization
        tokens = torch.empty(len(tower.blocks), num_tokens, width).uniform_(-bound, bound, generator=generator)
        self.tokens_LVD = nn.Parameter(tokens)
        weight = torch.empty(width, width).normal_(std=math.sqrt(2 / width), generator=generator)
        self.weight_DD = nn.Parameter(weight)
        self.bias_D = nn.Parameter(torch.zeros(width))
        coupling_LDC = torch.zeros(len(tower.blocks), width, coupled_width)
        self.coupling_LDC = nn.Parameter(coupling_LDC) if coupled_width else None
        self.norm = nn.LayerNorm(width, eps=1e-6) if with_norm else None

    def forward(self, context_MC: Tensor) -> Tensor:
        """-> (L, V, D) prompt tokens as the blocks see them; the text context acts where they are coupled."""
        prompts_LVD = self.tokens_LVD @ self.weight_DD.T + self.bias_D
        if self.coupling_LDC is None:
            return prompts_LVD
        shares_LMD = context_MC @ self.coupling_LDC.transpose(1, 2)
        return prompts_LVD + shares_LMD[:, torch.arange(prompts_LVD.shape[1]) % len(context_MC)]

    def finish(self, tokens_BND: Tensor) -> Tensor:
        """Tokens after the last block -> the same, normalized where there is a norm."""
        return tokens_BND if self.norm is None else self.norm(tokens_BND)


def num_visual_tokens(config: PromptConfig, tower: VisionTower) -> int:
    """V for this tower. InputError when tokens, or a norm of theirs, are asked for where there can be none."""
    if not tower.blocks:
        if config.visual_tokens > 0:
            raise InputError(
                f"prompts.visual_tokens {config.visual_tokens}: this image tower is no transformer and takes no visual "
                "prompts; set prompts.visual_tokens=0 or choose a ViT backbone"
            )
        count = 0
    elif config.visual_tokens == -1:
        count = max(1, round(PAPER_VISUAL_TOKENS * tower.width / PAPER_WIDTH))
    else:
        count = config.visual_tokens
    if config.prompt_norm and count == 0:
        raise InputError("prompts.prompt_norm belongs to visual prompts, and there are none; set it to false")
    if config.coupled and (count == 0 or config.context_tokens == 0):
        missing = "visual prompts" if count == 0 else "text context (prompts.context_tokens)"
        raise InputError(f"prompts.coupled needs {missing}, and there is none; set it to false")
    return count


def _with_placeholders(config: PromptConfig, tokenize) -> tuple[Tensor, list[int]]:
    """Token numbers of "x x x x phrase" and where the x are, found by comparing with another one-token word."""
    variants = [
        tokenize([" ".join([word] * config.context_tokens + [phrase]) for phrase in config.phrases])
        for word in ("x", "z")
    ]
    positions = (variants[0] != variants[1]).any(dim=0).nonzero().flatten().tolist()
    if len(positions) != config.context_tokens:
        raise InputError(
            f"prompts.context_tokens {config.context_tokens} do not fit: only {len(positions)} of them lie inside the "
            "text tower's context length; use fewer"
        )
    return variants[0], positions


def _context_from_words(config: PromptConfig, tokenize, tower: TextTower, positions: list[int]) -> Tensor:
    sentences = tokenize([f"{config.context_init} {phrase}" for phrase in config.phrases])
    placeholders, _ = _with_placeholders(config, tokenize)
    last = positions[-1] + 1 if positions else 0
    if not torch.equal(sentences[:, last:], placeholders[:, last:]):
        raise InputError(
            f"prompts.context_init '{config.context_init}' is not exactly "
            f"prompts.context_tokens={config.context_tokens} tokens long; change one of them"
        )
    with torch.no_grad():
        return tower.token_embeddings(sentences[0, positions]).float().clone()
