"""How well a model agrees with human scores on a labelled set."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

from grmp_core.metrics import Scores, bootstrap_interval, evaluate, srcc
from pipelines import ablation
from pipelines.ablation import Ablation
from pipelines.config import Config
from pipelines.score import open_model, score_paths
from pipelines.session import output_place, say, table, write_manifest
from pipelines.target import check_rejects, load_target


@dataclass(frozen=True)
class Evaluation:
    """Result of `grmp evaluate`."""

    model: str
    scores: Scores
    srcc_low: float
    srcc_high: float
    """95 % bootstrap interval of the SRCC over images."""

    def as_json(self) -> dict[str, Any]:
        interval = [self.srcc_low, self.srcc_high]
        return {"model": self.model, **dataclasses.asdict(self.scores), "srcc_interval": interval}

    def as_text(self) -> str:
        row = dataclasses.asdict(self.scores) | {"SRCC 95 %": f"{self.srcc_low:.3f}-{self.srcc_high:.3f}"}
        return f"{table([row])}\n{self.model}"


def run(config: Config) -> Evaluation | Ablation:
    """Score every image of the target with `score.model`; write `<output>/evaluate`. Or the ablation, if asked for."""
    return ablation.run(config) if config.evaluate.ablation else score_target(config)


def score_target(config: Config) -> Evaluation:
    """Agreement of one model with the human scores."""
    started = time.time()
    place, bundle = open_model(config)
    target = load_target(config.target)
    frame = score_paths(config, bundle, place.uri, target.table["image_path"].to_pylist())
    frame["mos"] = target.table["mos"].to_numpy()
    failed = frame[frame["error"].notna()]
    rejected = tuple({"path": row.image_path, "reason": row.error} for row in failed.itertuples())
    check_rejects(config.target, target.table.num_rows, rejected)
    good = frame[frame["error"].isna()]
    scores = evaluate(good["mos_scale_score"].to_numpy(), good["mos"].to_numpy())
    low, high = bootstrap_interval(srcc, good["quality"].to_numpy(), good["mos"].to_numpy(), seed=config.seed)
    output = output_place(config, "evaluate")
    result = Evaluation(place.uri, scores, low, high)
    (output / "evaluation.json").write_json(result.as_json())
    write_manifest(
        output,
        "evaluate",
        config,
        started,
        inputs={"target": target.fingerprint(), "model": place.uri},
        counts={"images": len(good)},
        rejected=rejected,
    )
    say(f"evaluate: {len(good)} images of {config.target.dataset}")
    return result


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("evaluate")
