"""Does meta-prompt pre-training help with a type of damage that it has never seen?

    python -m tests.benchmarks.prompt_transfer --tasks runs/livec/tasks

Prompts are pre-trained on the 20 types of the task store that the embedded backbone's own training had, or on the
first few of them. On each of the 5 other types, which neither has seen, they then adapt to a few labelled views of the
support references, by the inner loop of pre-training. SRCC with the labels, on all views of the query references: the
mean over types and draws, and its difference to untrained prompts with a 95 % bootstrap interval over query references
and draws.

The image tower's tokens in front of its first block do not depend on prompts, so every view is encoded once.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from grmp_core.learning.episode_plan import episodes_of_step
from grmp_core.learning.meta_pretraining import Episode, LabelledBatch, MetaState, inner_loop, meta_train
from grmp_core.learning.rank_losses import meta_loss
from grmp_core.learning.settings import MetaConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.nano.sentences import HELD_OUT_TYPES
from grmp_core.seeds import generator_of
from grmp_core.storage import locate
from grmp_core.tasks.distortion_tasks import LEVELS, Part
from grmp_core.tasks.task_store import TaskStore
from pipelines.configuration.loading import load_config
from pipelines.runtime.console import say, table

RESAMPLES = 400
ENCODED_AT_ONCE = 60


@dataclasses.dataclass(frozen=True)
class EncodedTask:
    """Tokens and labels of one type; R references, 5 levels."""

    tokens: dict[Part, Tensor]
    """(R, 5, N, D) of each part."""
    quality: dict[Part, Tensor]
    """(R, 5)."""

    def batches(self, part: Part, pairs: Sequence[tuple[int, int]], size: int) -> list[LabelledBatch]:
        """`pairs`: index of a reference, and level."""
        references, levels = (torch.tensor(side) for side in zip(*pairs, strict=True))
        tokens = self.tokens[part][references, levels - LEVELS[0]]
        quality = self.quality[part][references, levels - LEVELS[0]]
        return list(zip(tokens.split(size), quality.split(size), strict=True))


@dataclasses.dataclass(frozen=True)
class Start:
    """Prompts to adapt from, and how they came about."""

    name: str
    types: int = 0
    """Types of damage that pre-training had."""
    changes: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Of the `meta` settings."""


STARTS = (
    Start("untrained"),
    Start("5 types", 5),
    Start("20 types", 20),
    Start("20 types, outer rate 1", 20, {"outer_lr": 1.0}),
    Start("20 types, resync never", 20, {"resync": "never"}),
)


class Experiment:
    """One model, one encoded store, one loss."""

    def __init__(self, store: TaskStore, precision: str, seed: int) -> None:
        config = load_config(None, [f"precision={precision}"], {})
        self.meta, self.seed = config.meta, seed
        self.model = QualityModel(load_backbone(config.backbone), config.prompts, precision=precision, seed=seed)
        self.references = store.num_references
        self.tasks = {name: self._encode(store, name) for name in store.tasks}
        self.seen = [name for name in store.tasks if name not in HELD_OUT_TYPES]
        self.unseen = [name for name in store.tasks if name in HELD_OUT_TYPES]

    def _encode(self, store: TaskStore, task: str) -> EncodedTask:
        say(f"encoding {task}")
        tokens, quality = {}, {}
        for part in store.num_references:
            count = store.num_references[part]
            views, labels = store.read(task, part, [(r, level) for r in range(count) for level in LEVELS])
            pieces = torch.from_numpy(views).split(ENCODED_AT_ONCE)
            tokens[part] = torch.cat([self.model.embed(piece) for piece in pieces]).unflatten(0, (count, len(LEVELS)))
            quality[part] = torch.from_numpy(labels).unflatten(0, (count, len(LEVELS)))
        return EncodedTask(tokens, quality)

    def loss(self, parameters: Mapping[str, Tensor], tokens: Tensor, quality: Tensor) -> Tensor:
        return meta_loss(self.model.predict(parameters, tokens).quality_logits_BK, quality, self.meta.loss)

    def pretrained(self, start: Start) -> Parameters:
        meta = dataclasses.replace(self.meta, **start.changes)  # type: ignore[arg-type]
        state = MetaState(0, self.model.prompt_parameters())
        if start.types == 0:
            return state.parameters
        types = self.seen[: start.types]

        def episodes(step: int) -> Iterator[Episode]:
            for plan in episodes_of_step(types, step, self.references, meta, self.seed):
                task = self.tasks[plan.task]
                support = task.batches("support", plan.support, meta.batch_size)
                yield Episode(plan.task, support, task.batches("query", plan.query, meta.batch_size))

        for record, reached in meta_train(state, self.loss, episodes, meta):
            state = reached
            if record.step in (1, meta.outer_steps):
                say(f"{start.name}: outer step {record.step}, query loss {record.query_loss:.4f}")
        return state.parameters

    def adapted(self, start: Parameters, task: str, shots: int, draw: int, lr: float, passes: int) -> Parameters:
        """`start` after `passes` over `shots` labelled support views of one type."""
        if shots == 0:
            return start
        rng = generator_of("prompt transfer", self.seed, task, shots, draw)
        rows = rng.permutation(self.references["support"] * len(LEVELS))[:shots]
        pairs = [(int(row) // len(LEVELS), LEVELS[int(row) % len(LEVELS)]) for row in rows]
        batches = self.tasks[task].batches("support", pairs, self.meta.batch_size)
        meta = MetaConfig(inner_lr=lr, loss=self.meta.loss)
        return inner_loop(start, self.loss, batches * passes, meta, task)[0]

    @torch.no_grad()
    def predicted(self, parameters: Parameters, task: str) -> np.ndarray:
        """(R, 5) quality of the query views."""
        tokens = self.tasks[task].tokens["query"]
        parts = [self.model.predict(parameters, piece).quality_logits_BK for piece in tokens.flatten(0, 1).split(60)]
        return torch.cat(parts).float().softmax(-1)[:, 0].unflatten(0, tokens.shape[:2]).numpy()


def movement(start: Parameters, moved: Parameters) -> dict[str, float]:
    """Root mean square move of each prompt tensor, in standard deviations of its untrained values (1 where those do not
    vary)."""
    return {
        name: float((moved[name] - tensor).square().mean().sqrt() / (tensor.std() if tensor.std() > 0 else 1))
        for name, tensor in start.items()
        if tensor.numel() > 1
    }


def mean_srcc(predicted_TKR5: np.ndarray, labels_TR5: np.ndarray, references: np.ndarray, draws: np.ndarray) -> float:
    """Over T types and the K draws of `draws`; only the rows of `references` count, as often as they are named."""
    chosen = predicted_TKR5[:, draws][:, :, references].reshape(*predicted_TKR5[:, draws].shape[:2], -1)
    ranks = stats.rankdata(chosen, axis=-1)
    labels = stats.rankdata(labels_TR5[:, references].reshape(len(labels_TR5), 1, -1), axis=-1)
    ranks, labels = (side - side.mean(axis=-1, keepdims=True) for side in (ranks, labels))
    norms = np.sqrt((ranks**2).sum(-1) * (labels**2).sum(-1))
    return float(np.mean((ranks * labels).sum(-1) / norms))


def interval(a: np.ndarray, b: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % of `mean_srcc(a) - mean_srcc(b)` over resampled references and draws."""
    rng = np.random.default_rng(seed)
    num_draws, num_references = a.shape[1:3]
    differences = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(num_references, size=(num_references,)), rng.integers(num_draws, size=(num_draws,))
        differences.append(mean_srcc(a, labels, *chosen) - mean_srcc(b, labels, *chosen))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def compared(
    experiment: Experiment, starts: Mapping[str, Parameters], shots: int, lr: float, options: argparse.Namespace
) -> list[dict[str, object]]:
    """A row for each start, adapted to `shots` views at one learning rate; the first start is the one to beat."""
    labels = np.stack([experiment.tasks[task].quality["query"].numpy() for task in experiment.unseen])
    references, draws = np.arange(labels.shape[1]), np.arange(options.draws)

    def predicted(start: Parameters, task: str, draw: int) -> np.ndarray:
        return experiment.predicted(experiment.adapted(start, task, shots, draw, lr, options.passes), task)

    rows: list[dict[str, object]] = []
    baseline_TKR5 = np.empty(0)
    for name, start in starts.items():
        found_TKR5 = np.array([[predicted(start, task, k) for k in range(options.draws)] for task in experiment.unseen])
        value = mean_srcc(found_TKR5, labels, references, draws)
        row = {"shots": shots, "lr": f"{lr:g}" if shots else "", "start": name, "SRCC": value, "to untrained": ""}
        if rows:
            low, high = interval(found_TKR5, baseline_TKR5, labels, options.seed)
            gain = value - mean_srcc(baseline_TKR5, labels, references, draws)
            row["to untrained"] = f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        else:
            baseline_TKR5 = found_TKR5
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", required=True, help="a task store of all KADID-10k types (`grmp synthesize`)")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 5, 10, 25])
    parser.add_argument("--draws", type=int, default=5, help="of the labelled views")
    parser.add_argument("--passes", type=int, default=10, help="over the labelled views")
    parser.add_argument("--lr", type=float, nargs="+", default=[2.5e-4, 1e-3], help="Adam's, of adaptation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    experiment = Experiment(TaskStore(locate(options.tasks)), options.precision, options.seed)
    starts = {start.name: experiment.pretrained(start) for start in STARTS}
    for name, parameters in starts.items():
        moves = movement(starts[STARTS[0].name], parameters)
        print(f"{name}: moved by " + ", ".join(f"{tensor} {moved:.3f}" for tensor, moved in moves.items()))
    rows = []
    for shots in options.shots:
        for lr in options.lr if shots else options.lr[:1]:
            rows += compared(experiment, starts, shots, lr, options)
            say(f"{shots} shots, learning rate {lr:g}: done")
    print(table(rows))


if __name__ == "__main__":
    main()
