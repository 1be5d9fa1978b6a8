"""The published method (GRMP-IQA's code, commit b36d254) as it computes: a yardstick in words of our own.

Model, losses, projection and both loops as published, with three things left out that are no mathematics: dropout
(published: 0.1), half precision, and ImageNet's pixel statistics in place of the backbone's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")

Batches = Sequence[tuple[Tensor, Tensor]]


class Published(nn.Module):
    """The prompted CLIP, every prompt token inserted and run through whole blocks.

    clip: an open_clip model with a class token; it is copied. norm: whether `prompt_norm` is there, as published.
    """

    def __init__(self, clip: nn.Module, tokenize, mean, std, num_tokens: int, norm: bool) -> None:
        super().__init__()
        self.clip = copy.deepcopy(clip).requires_grad_(False)
        width, layers = clip.visual.transformer.width, len(clip.visual.transformer.resblocks)
        self.ctx = nn.Parameter(torch.zeros(4, clip.token_embedding.embedding_dim))
        self.prompt_embeddings = nn.Parameter(torch.zeros(1, num_tokens, width))
        self.deep_prompt_embeddings = nn.Parameter(torch.zeros(layers - 1, num_tokens, width))
        self.prompt_proj = nn.Linear(width, width)
        self.prompt_norm = nn.LayerNorm(width, eps=1e-6) if norm else None
        self.phrases = tokenize([f"X X X X {words}." for words in ("high quality", "low quality")])
        self.scenes = tokenize([f"a photo of a {scene}" for scene in SCENES])
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))

    def load(self, ours: dict[str, Tensor]) -> Published:
        """Take over learned tensors under the names that this package gives them."""
        tokens = ours["visual_prompt.tokens_LVD"]
        taken = {
            "ctx": ours["text_prompt.context_MD"],
            "prompt_embeddings": tokens[:1],
            "deep_prompt_embeddings": tokens[1:],
            "prompt_proj.weight": ours["visual_prompt.weight_DD"],
            "prompt_proj.bias": ours["visual_prompt.bias_D"],
        }
        taken |= {f"prompt_{n[14:]}": t for n, t in ours.items() if n.startswith("visual_prompt.norm.")}
        taken |= {n: t for n, t in ours.items() if n.startswith("clip.")}
        with torch.no_grad():
            for name, tensor in taken.items():
                self.get_parameter(name).copy_(tensor)
        return self

    def learned(self) -> dict[str, Tensor]:
        """The prompts, under this package's names."""
        actual = {
            "text_prompt.context_MD": self.ctx,
            "visual_prompt.tokens_LVD": torch.cat([self.prompt_embeddings, self.deep_prompt_embeddings]),
            "visual_prompt.weight_DD": self.prompt_proj.weight,
            "visual_prompt.bias_D": self.prompt_proj.bias,
        }
        if self.prompt_norm is not None:
            actual |= {f"visual_prompt.norm.{n}": p for n, p in self.prompt_norm.named_parameters()}
        return {name: tensor.detach().clone() for name, tensor in actual.items()}

    def image_features(self, views_BHWC: Tensor, prompted: bool = True) -> Tensor:
        visual = self.clip.visual
        pixels = (views_BHWC.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
        first = visual.class_embedding.expand(len(patches), 1, -1)
        hidden = visual.ln_pre(torch.cat([first, patches], dim=1) + visual.positional_embedding)
        count, blocks = self.prompt_embeddings.shape[1], visual.transformer.resblocks
        for i, block in enumerate(blocks):
            if prompted:
                entries = self.prompt_embeddings[0] if i == 0 else self.deep_prompt_embeddings[i - 1]
                inserted = self.prompt_proj(entries).expand(len(hidden), -1, -1)
                kept = hidden[:, 1:] if i == 0 else hidden[:, 1 + count :]
                hidden = torch.cat([hidden[:, :1], inserted, kept], dim=1)
            hidden = block(hidden)
        if prompted and self.prompt_norm is not None:
            hidden = self.prompt_norm(hidden)
        return F.normalize((visual.ln_post(hidden) @ visual.proj)[:, 0], dim=-1)

    def text_features(self, ids: Tensor, context: Tensor | None) -> Tensor:
        clip, embedded = self.clip, self.clip.token_embedding(ids)
        if context is not None:
            embedded = torch.cat([embedded[:, :1], context.expand(len(ids), -1, -1), embedded[:, 5:]], dim=1)
        hidden = clip.ln_final(clip.transformer(embedded + clip.positional_embedding, attn_mask=clip.attn_mask))
        return F.normalize(hidden[torch.arange(len(ids)), ids.argmax(dim=-1)] @ clip.text_projection, dim=-1)

    def forward(self, views_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """-> quality logits (B, 2) and scene logits (B, 9) of the student."""
        image, scale = self.image_features(views_BHWC), self.clip.logit_scale.exp()
        quality = scale * image @ self.text_features(self.phrases, self.ctx).T
        return quality, scale * image @ self.text_features(self.scenes, None).T

    @torch.no_grad()
    def teacher(self, views_BHWC: Tensor) -> Tensor:
        """Scene logits of the plain CLIP; ask a model that nothing has adapted."""
        image = self.image_features(views_BHWC, prompted=False)
        return self.clip.logit_scale.exp() * image @ self.text_features(self.scenes, None).T


def quality_loss(logits_BK: Tensor, quality_B: Tensor) -> Tensor:
    p = logits_BK.softmax(dim=-1)
    return -(quality_B * p[:, 0].log() + (1 - quality_B) * p[:, 1].log()).sum() / len(p)


def scene_loss(student_BS: Tensor, teacher_BS: Tensor) -> Tensor:
    """Cross-entropy with the teacher: KL but for a constant, so the same gradient."""
    return -(teacher_BS.softmax(dim=-1) * student_BS.log_softmax(dim=-1)).sum(dim=1).mean()


def project(quality: Tensor, scene: Tensor, strength: float) -> tuple[Tensor, bool]:
    """-> the gradient that is followed, and whether it was changed."""
    product = torch.dot(quality.flatten(), scene.flatten())
    if product <= 0:
        return quality, False
    return quality - strength * product / torch.linalg.norm(scene) ** 2 * scene, True


def fine_tuning_gradients(
    student: Published, teacher: Published, views: Tensor, quality: Tensor, names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Quality and scene gradients of the named parameters, by two passes backward."""
    leaves = [student.get_parameter(name).requires_grad_() for name in names]
    quality_logits, scene_logits = student(views)
    losses = (quality_loss(quality_logits, quality), scene_loss(scene_logits, teacher.teacher(views)))
    actual = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        actual.append(dict(zip(names, gradients, strict=True)))
    return actual[0], actual[1]


def pretrain(
    meta: Published, steps: Sequence[Sequence[tuple[Batches, Batches]]], inner_lr: float, outer_lr: float, resync: bool
) -> dict[str, Tensor]:
    """Meta-prompt pre-training; `steps` hold, for every outer step, the (support, query) batches of every task.

    resync: set the task model back to the shared prompts before each task, which the published code forgets to do.
    """
    names = [name for name, _ in meta.named_parameters() if not name.startswith("clip.")]
    task_model = copy.deepcopy(meta)
    for tasks in steps:
        updates = []
        for support, query in tasks:
            if resync:
                task_model.load_state_dict(meta.state_dict())
            learned = [task_model.get_parameter(name) for name in names]
            optimizer = torch.optim.Adam(learned, lr=inner_lr)
            queries = iter(query)
            for i, batch in enumerate(support):
                for views, quality in (batch, next(queries)):
                    optimizer.zero_grad()
                    quality_loss(task_model(views)[0], quality).backward()
                    optimizer.step()
                if (i + 1) % len(query) == 0:
                    queries = iter(query)
            updates.append([meta.get_parameter(n).data - task_model.get_parameter(n).data for n in names])
        for i, name in enumerate(names):
            meta.get_parameter(name).data -= sum(update[i] for update in updates) / len(tasks) * outer_lr
    return meta.learned()
