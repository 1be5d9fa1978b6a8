"""Labelled images as an adaptation reads them: the tokens of their views in front of the first block that adapts.

Shapes: N images, V training views, G scoring views, T tokens of width D, S scenes, F statistics, L blocks, P prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.model.token_statistics import token_statistics


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Rows of a tensor that stays where it is, such as in a mapped file; what is asked for is copied."""

    stored: Tensor
    """(M, V, T, D), maybe of a narrower type."""
    rows: Tensor
    """(N,) int64, in [0, M)."""
    dtype: torch.dtype
    """Of what is asked for."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self), *self.stored.shape[1:]])

    def __getitem__(self, index: Tensor | tuple[Tensor, Tensor] | slice) -> Tensor:
        """As of a tensor (N, V, T, D), with numbers of rows, or numbers of rows and views."""
        rows, *views = index if isinstance(index, tuple) else (index,)
        return self.stored[self.rows[rows], *views].to(self.dtype)

    def take(self, rows: Tensor) -> TokenRows:
        """Some of the rows; nothing is copied."""
        return TokenRows(stored=self.stored, rows=self.rows[rows], dtype=self.dtype)


@dataclass(frozen=True)
class LabelledViews:
    """Everything about labelled images that no adaptation step changes, computed once a view.

    Holds tokens in front of the first adapting block instead of images, and the frozen teacher's scene logits.
    """

    train_tokens_NVTD: Tensor | TokenRows
    teacher_logits_NVS: Tensor
    score_tokens_NGTD: Tensor | TokenRows
    quality_N: Tensor
    statistics_NF: Tensor
    """Mean `token_statistics` of the scoring views."""
    reference_ids: tuple[str, ...]
    weight_N: Tensor | None = None
    """How much each label counts in the loss; null: all alike."""
    before_NV: Tensor | None = None
    """`losses.margins` of the training views by a model whose order is to be kept; null: there is none."""

    def __len__(self) -> int:
        return len(self.quality_N)

    def subset(self, rows: np.ndarray) -> LabelledViews:
        index = torch.as_tensor(rows, dtype=torch.long)
        return LabelledViews(
            _take(self.train_tokens_NVTD, index),
            self.teacher_logits_NVS[index],
            _take(self.score_tokens_NGTD, index),
            self.quality_N[index],
            self.statistics_NF[index],
            tuple(self.reference_ids[i] for i in rows),
            None if self.weight_N is None else self.weight_N[index],
            None if self.before_NV is None else self.before_NV[index],
        )


@dataclass(frozen=True)
class Prefix:
    """The frozen blocks in front of the first one that adapts."""

    stop_block: int
    prompts_LPD: Tensor | None
    """Prompts of these blocks, L = stop_block; null where there are none."""

    @classmethod
    def of(cls, model: QualityModel, parameters: Parameters) -> Prefix:
        """Of an adaptation of `model` that starts from `parameters`."""
        stop = model.first_adapting_block
        prompts = model.visual_prompts(parameters) if stop else None
        return cls(stop, None if prompts is None else prompts[:stop].detach().cpu())


@dataclass(frozen=True)
class EncodedViews:
    """Features of the views of N images, for one prefix or several."""

    train_tokens_NVTD: list[Tensor]
    """One a prefix."""
    teacher_logits_NVS: Tensor
    score_tokens_NGTD: list[Tensor]
    """One a prefix."""
    statistics_NF: Tensor


def encode_views(
    model: QualityModel,
    prefixes: Sequence[Prefix],
    train_views_NVHWC: np.ndarray,
    score_views_NGHWC: np.ndarray,
    chunk: int = 32,
    deep: bool = False,
) -> EncodedViews:
    """Run the frozen part of the model over all views (uint8), `chunk` at a time.

    Args:
        deep: of the statistics, as `token_statistics` has it.
    """

    def over_views(views: np.ndarray, last: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
        flat = torch.from_numpy(np.ascontiguousarray(views).reshape(-1, *views.shape[2:]))
        parts = [[*_run(model, prefixes, tokens), last(tokens)] for tokens in map(model.embed, flat.split(chunk))]
        *tokens, more = [torch.cat(column).unflatten(0, views.shape[:2]) for column in zip(*parts, strict=True)]
        return tokens, more

    train_tokens, teacher_logits = over_views(train_views_NVHWC, model.teacher_scene_logits)
    score_tokens, statistics = over_views(
        score_views_NGHWC, lambda tokens: token_statistics(model.vision_tower, tokens, deep=deep)
    )
    return EncodedViews(train_tokens, teacher_logits, score_tokens, statistics.mean(dim=1))


def prepare_views(
    model: QualityModel,
    parameters: Parameters,
    train_views_NVHWC: np.ndarray,
    score_views_NGHWC: np.ndarray,
    quality_N: np.ndarray,
    reference_ids: Sequence[str],
    chunk: int = 32,
    deep: bool = False,
) -> LabelledViews:
    """`encode_views` for an adaptation of `model` from `parameters`, with the labels in [0, 1]."""
    prefix = Prefix.of(model, parameters)
    encoded = encode_views(model, [prefix], train_views_NVHWC, score_views_NGHWC, chunk, deep)
    return LabelledViews(
        encoded.train_tokens_NVTD[0],
        encoded.teacher_logits_NVS,
        encoded.score_tokens_NGTD[0],
        torch.as_tensor(quality_N, dtype=torch.float32, device=model.device),
        encoded.statistics_NF,
        tuple(reference_ids),
    )


@torch.no_grad()
def _run(model: QualityModel, prefixes: Sequence[Prefix], tokens_BTD: Tensor) -> list[Tensor]:
    """Tokens behind each prefix. One goes on from where another with the same prompts has stopped."""
    reached: dict[int, Tensor] = {}
    for i in sorted(range(len(prefixes)), key=lambda i: prefixes[i].stop_block):
        prefix = prefixes[i]
        begun = next((j for j in reversed(reached) if _begins(prefixes[j], prefix)), None)
        start, tokens = (0, tokens_BTD) if begun is None else (prefixes[begun].stop_block, reached[begun])
        prompts_LPD = None if prefix.prompts_LPD is None else prefix.prompts_LPD.to(tokens.device)
        reached[i] = model.vision_tower.run(tokens, prompts_LPD, start, prefix.stop_block)
    return [reached[i] for i in range(len(prefixes))]


def _begins(short: Prefix, long: Prefix) -> bool:
    """Whether `long` has the blocks and prompts of `short` before its others."""
    if short.prompts_LPD is None or long.prompts_LPD is None:
        return short.stop_block == 0 or (short.prompts_LPD is None and long.prompts_LPD is None)
    return torch.equal(short.prompts_LPD, long.prompts_LPD[: short.stop_block])


def whole(tokens: Tensor | TokenRows) -> Tensor:
    """All of the tokens, in memory."""
    return tokens[:]


def _take(tokens: Tensor | TokenRows, rows: Tensor) -> Tensor | TokenRows:
    return tokens.take(rows) if isinstance(tokens, TokenRows) else tokens[rows]
