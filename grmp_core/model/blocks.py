"""Transformer blocks with prompts, opened up: what both towers are made of.

Shapes: B images, N tokens, V prompt tokens, D width of a tower.

Sources: VPT-deep (Jia et al. 2022) as used by GRMP-IQA, with one exact saving. The output of a prompt token is thrown
away before the next block, so a prompt token is needed as a key and a value only: no query, no output projection, no
MLP, and nothing of it depends on the image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn


class FusedQuickGELU(nn.Module):
    """x·sigmoid(1.702 x) written as silu(1.702 x)/1.702: the same function, one fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x * 1.702) * (1 / 1.702)


def fuse_activations(model: nn.Module) -> None:
    """Replace every QuickGELU of `model` by its fused form, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, QuickGELU):
                setattr(module, name, FusedQuickGELU())


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention over (B, heads, N, d) tensors.

    Written out on the CPU when a gradient is needed: there the fused kernel's backward is slower, and it cannot be
    differentiated twice, which second-order MAML needs.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores + mask
        return scores.softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def residual_block(
    block: ResidualAttentionBlock, tokens_BND: Tensor, prompts_VD: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """One transformer block whose tokens may also look at `prompts_VD`; returns the tokens only, (B, N, D)."""
    attention = block.attn
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias

    def split_heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, width // heads)).transpose(-3, -2)

    query, key, value = F.linear(block.ln_1(tokens_BND), weight, bias).chunk(3, dim=-1)
    if prompts_VD is not None:
        key_value_VD = F.linear(block.ln_1(prompts_VD), weight[width:], bias[width:])
        key_value_BVD = key_value_VD.expand(tokens_BND.shape[0], -1, -1)  # len() would fix the batch in an export
        prompt_key, prompt_value = key_value_BVD.chunk(2, dim=-1)
        key, value = torch.cat([key, prompt_key], dim=1), torch.cat([value, prompt_value], dim=1)
    mixed = attend(split_heads(query), split_heads(key), split_heads(value), mask)
    tokens_BND = tokens_BND + block.ls_1(attention.out_proj(mixed.transpose(-3, -2).flatten(-2)))
    return tokens_BND + block.ls_2(block.mlp(block.ln_2(tokens_BND)))


def run_block(block: nn.Module, tokens_BND: Tensor, prompts_VD: Tensor | None, num_prefix_tokens: int) -> Tensor:
    """`residual_block` where the block is open_clip's plain one, else the same by insertion, for any other block."""
    if isinstance(block, ResidualAttentionBlock):
        return residual_block(block, tokens_BND, prompts_VD)
    return run_block_by_insertion(block, tokens_BND, prompts_VD, num_prefix_tokens)


def run_block_by_insertion(
    block: nn.Module, tokens_BND: Tensor, prompts_VD: Tensor | None, num_prefix_tokens: int
) -> Tensor:
    """Insert the prompts behind the prefix tokens, run the block as it is, take the prompts out again."""
    if prompts_VD is None:
        return block(tokens_BND)
    prompts_BVD = prompts_VD.expand(tokens_BND.shape[0], -1, -1)
    parts = [tokens_BND[:, :num_prefix_tokens], prompts_BVD, tokens_BND[:, num_prefix_tokens:]]
    output = block(torch.cat(parts, dim=1))
    return torch.cat([output[:, :num_prefix_tokens], output[:, num_prefix_tokens + len(prompts_VD) :]], dim=1)


GRAPHS = 64
"""Compiled forms of a block that a process may have: with and without gradients, of what learns, of sizes of a batch.
After torch's own limit, 8, further ones would run as they are, with a warning only."""


def compiled(block_function: Callable[..., Tensor], backend: str) -> Callable[..., Tensor]:
    """`run_block` or `residual_block` by torch.compile: one graph for all blocks of a kind, since weights are inputs.

    Its backward pass may run twice, for the two gradients of an adaptation step, but not be differentiated.
    """
    import torch._dynamo.config  # imports much, and only this switch needs it
    import torch._functorch.config

    torch._functorch.config.donated_buffer = False  # else the first backward pass uses up what the second one needs
    torch._dynamo.config.recompile_limit = GRAPHS
    return torch.compile(block_function, backend=backend)
