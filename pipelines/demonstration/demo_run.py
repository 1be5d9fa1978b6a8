"""All stages in turn on embedded data; nothing is downloaded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.demonstration.embedded_target import LABELS, demo_config, draw_new_images, draw_target
from pipelines.pretraining.pretraining_run import pretrain_prompts
from pipelines.registry import registration
from pipelines.registry.registration import register_model
from pipelines.reporting.sweep_report import write_report
from pipelines.runtime.console import say
from pipelines.runtime.ray_session import ray_session
from pipelines.scoring.scoring_run import score_images, scores_as_text
from pipelines.sweeping import sweep_run
from pipelines.sweeping.sweep_run import run_sweep
from pipelines.task_making.synthesis import synthesize
from pipelines.tracking.tracker import open_tracking


@dataclass(frozen=True)
class Demo:
    """Result of `grmp demo`."""

    sweep: sweep_run.Sweep
    registration: registration.Registration
    scores: pd.DataFrame
    report: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "sweep": self.sweep.as_json(),
            "model": f"models:/{self.registration.name}/{self.registration.version}",
            "report": self.report,
            "seconds": round(self.seconds, 1),
        }

    def as_text(self) -> str:
        return "\n".join(
            [
                f"Few-shot sweep, test scores ({LABELS}):",
                self.sweep.as_text(),
                "",
                "Scores of new pictures by the registered model (a clean one, then increasing blur):",
                scores_as_text(self.scores),
                "",
                f"model     models:/{self.registration.name}/{self.registration.version}"
                f"{' @champion' if self.registration.is_champion else ''}",
                f"report    {self.report}",
                f"took      {self.seconds:.0f} s",
            ]
        )


def run_demo(config: Config) -> Demo:
    """Synthesize, pre-train, sweep, report, register and score, all under `config.output`."""
    started = time.time()
    output = locate(config.output)
    open_tracking(config)  # refuses an output without a tracking store before any work is done
    config = demo_config(config, output)
    with ray_session():
        say("demo: 1/6 distortion tasks from drawn pictures")
        synthesize(config)
        say("demo: 2/6 meta-learning the prompts")
        pretrain_prompts(config)
        say("demo: 3/6 few-shot sweep over lambda")
        draw_target(output / "target", config.seed)
        result = run_sweep(config)
        say("demo: 4/6 report")
        page = write_report(config)
        say("demo: 5/6 registering the model")
        registered = register_model(config)
        say("demo: 6/6 scoring new pictures")
        draw_new_images(output / "new", config.seed)
        scored = score_images(config)
    return Demo(result, registered, scored.scores, str(page.path_html), time.time() - started)
