"""All stages in turn on embedded data; nothing is downloaded."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.demonstration.embedded_target import BIASED, LABELS, demo_config, draw_new_images, draw_target
from pipelines.demonstration.findings import findings
from pipelines.explaining.explaining_run import Explained, explain_images
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
    explained: Explained
    report: str
    target: str
    """Folder of the labelled pictures."""
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "sweep": self.sweep.as_json(),
            "findings": findings(self.sweep.results),
            "model": f"models:/{self.registration.name}/{self.registration.version}",
            "report": self.report,
            "explanation": self._picture,
            "seconds": round(self.seconds, 1),
        }

    @property
    def _picture(self) -> str:
        return f"{self.explained.rows[0]['files']}.png"

    def as_text(self) -> str:
        champion = " @champion" if self.registration.is_champion else ""
        return "\n".join(
            [
                *textwrap.wrap(f"Test scores of the few-shot sweep. The {LABELS}. {BIASED.capitalize()}.", 110),
                self.sweep.as_text(),
                *findings(self.sweep.results),
                "",
                "Scores of a new picture by the registered model, clean and increasingly blurred:",
                scores_as_text(self.scores),
                "",
                f"model     models:/{self.registration.name}/{self.registration.version}{champion}",
                f"report    {self.report}",
                f"explain   {self._picture}",
                f"took      {self.seconds:.0f} s",
                "",
                f"Rate pictures by yourself: grmp rate {self.target}",
            ]
        )


def run_demo(config: Config) -> Demo:
    """Synthesize, pre-train, sweep, report, register, score and explain, all under `config.output`."""
    started = time.time()
    output = locate(config.output)
    open_tracking(config)  # refuses an output without a tracking store before any work is done
    config = demo_config(config, output)
    with ray_session():
        say("demo: 1/7 distortion tasks from drawn pictures")
        synthesize(config)
        say("demo: 2/7 meta-learning the prompts")
        pretrain_prompts(config)
        say("demo: 3/7 few-shot sweep over lambda")
        target = output / "target"
        draw_target(target, config.seed)
        result = run_sweep(config)
        say("demo: 4/7 report")
        page = write_report(config)
        say("demo: 5/7 registering the model")
        registered = register_model(config)
        say("demo: 6/7 scoring new pictures")
        draw_new_images(output / "new", config.seed)
        scored = score_images(config)
        say("demo: 7/7 explaining one of them")
        explained = explain_images(config)
    return Demo(
        sweep=result,
        registration=registered,
        scores=scored.scores,
        explained=explained,
        report=str(page.path_html),
        target=target.uri,
        seconds=time.time() - started,
    )
