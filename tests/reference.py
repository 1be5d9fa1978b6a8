"""The same mathematics without any of the savings: the oracle of the tests and the yardstick of the benchmarks.

Prompts are inserted as tokens and run through whole blocks, every image passes the whole tower in float32, the
teacher is asked again at every step, text is encoded with all its padding, attention is open_clip's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grmp_core.model.scene_words import SCENES


class PlainModel(nn.Module):
    """An open_clip CLIP with visual and text prompts, as a textbook would write it."""

    def __init__(self, clip: nn.Module, tokenize, mean, std, num_context: int, phrases) -> None:
        super().__init__()
        self.clip, self.num_context = clip, num_context
        self.register_buffer("phrases", tokenize([" ".join(["x"] * num_context + [phrase]) for phrase in phrases]))
        self.register_buffer("scenes", tokenize([f"a photo of a {scene}" for scene in SCENES]))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalize(self, views: Tensor) -> Tensor:
        return (views.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def image_features(self, views: Tensor, prompts: dict[str, Tensor] | None) -> Tensor:
        visual = self.clip.visual
        tokens = visual._embeds(self.normalize(views))
        for index, block in enumerate(visual.transformer.resblocks):
            if prompts is None:
                tokens = block(tokens)
                continue
            inserted = prompts["tokens_LVD"][index] @ prompts["weight_DD"].T + prompts["bias_D"]
            inserted = inserted.expand(len(tokens), -1, -1)
            output = block(torch.cat([tokens[:, :1], inserted, tokens[:, 1:]], dim=1))
            tokens = torch.cat([output[:, :1], output[:, 1 + inserted.shape[1] :]], dim=1)
        if prompts is not None and "norm.weight" in prompts:
            tokens = F.layer_norm(tokens, tokens.shape[-1:], prompts["norm.weight"], prompts["norm.bias"], eps=1e-6)
        pooled, _ = visual._pool(tokens)
        return F.normalize(pooled @ visual.proj, dim=-1)

    def text_features(self, context: Tensor) -> Tensor:
        clip = self.clip
        embeddings = clip.token_embedding(self.phrases)
        before, after = embeddings[:, :1], embeddings[:, 1 + self.num_context :]
        tokens = torch.cat([before, context.expand(len(embeddings), -1, -1), after], dim=1)
        tokens = clip.ln_final(clip.transformer(tokens + clip.positional_embedding, attn_mask=clip.attn_mask))
        pooled = tokens[torch.arange(len(tokens)), self.phrases.argmax(-1)]
        return F.normalize(pooled @ clip.text_projection, dim=-1)

    def quality_logits(self, views: Tensor, prompts: dict[str, Tensor], context: Tensor) -> Tensor:
        return self.clip.logit_scale.exp() * self.image_features(views, prompts) @ self.text_features(context).T

    def scene_logits(self, views: Tensor, prompts: dict[str, Tensor] | None) -> Tensor:
        text = F.normalize(self.clip.encode_text(self.scenes), dim=-1)
        return self.clip.logit_scale.exp() * self.image_features(views, prompts) @ text.T


def split_prompts(parameters: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Learned tensors of the package's model -> (visual prompts, text context) for `PlainModel`."""
    visual = {n.removeprefix("visual_prompt."): t for n, t in parameters.items() if n.startswith("visual_prompt.")}
    return visual, parameters["text_prompt.context_MD"]


def plain_adaptation_gradients(
    model: PlainModel, teacher: PlainModel, views: Tensor, quality: Tensor, prompts, context: Tensor, names: list[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Quality and semantic gradients by two separate passes; `names` are parameters of `model.clip` (and "context")."""
    own = dict(model.clip.named_parameters())
    leaves = {name: (context if name == "context" else own[name]) for name in names}
    for leaf in leaves.values():
        leaf.requires_grad_()
    probability = model.quality_logits(views, prompts, context).softmax(-1)[:, 0]
    quality_gradients = _gradients(F.binary_cross_entropy(probability, quality), leaves)
    with torch.no_grad():
        target = teacher.scene_logits(views, None).log_softmax(-1)
    student = model.scene_logits(views, prompts).log_softmax(-1)
    divergence = (target.exp() * (target - student)).sum(-1).mean()
    return quality_gradients, _gradients(divergence, leaves)


def _gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True))
