"""Every command of `pipelines.cli.COMMANDS` as a job: how it runs on a cluster with its output in a bucket, or why it
does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TARGET = "s3://jobs/target"
NUM_IMAGES = 18


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command. `{output}` in its texts is the output of the run."""

    needs: tuple[str, ...] = ()
    """Files and folders below the output that other commands have made."""
    arguments: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    results: tuple[str, ...] = ()
    """Files below the output that are compared with those of an undisturbed run."""
    unlike: tuple[str, ...] = ()
    """Keys of the printed result that differ from run to run."""
    dies_after: int = 1
    """Files that the driver writes before it is killed; it is killed at its end at the latest."""


TRIAL = "sweep/trials/lambda=0-shots=6-seed=0"
ADAPTED = "{output}/adapt/bundle"
PRETRAINED, MODEL = ("pretrain/bundle",), ("adapt/bundle",)
JOBS: dict[str, Job] = {
    "synthesize": Job(results=("tasks/plan.json",)),
    "preview": Job(arguments=("{output}/sheet.png",), results=("sheet.png",)),
    "pretrain": Job(
        needs=("tasks",), results=("pretrain/bundle/model.safetensors", "pretrain/history.json"), dies_after=3
    ),
    "inspect": Job(arguments=("--write-splits", "{output}/splits.csv"), results=("splits.csv",)),
    "sweep": Job(
        needs=PRETRAINED,
        results=("sweep/results.parquet", f"{TRIAL}/predictions.parquet", "sweep/report.md"),
        dies_after=2,
    ),
    "report": Job(needs=("sweep",), results=("sweep/report.md",)),
    "adapt": Job(needs=(*PRETRAINED, "sweep"), results=("adapt/bundle/model.safetensors", "adapt/history.json")),
    "distil": Job(
        needs=MODEL,
        arguments=(TARGET, "--teacher", ADAPTED, "--student", "grmp-nano-xxs"),
        settings={"distil.steps": 2, "distil.images_per_group": 2, "distil.checkpoint_every": 1},
        results=("distil/grmp-nano-xxs/bundle/model.safetensors", "distil/grmp-nano-xxs/history.json"),
        dies_after=4,
    ),
    "ablate": Job(
        needs=PRETRAINED,
        settings={"ablate.arms": ["whole method", "no label"], "ablate.rivals": ["no label"], "sweep.lambdas": [0, 5]},
        results=("ablation/ablation.csv",),
        dies_after=3,
    ),
    "cross": Job(
        needs=(*PRETRAINED, "sweep", "ablation"),
        arguments=("{output}", "{output}/ablation/MPP"),
        results=("cross/cross.csv",),
    ),
    "continual": Job(
        needs=PRETRAINED,
        arguments=("--sets", "{folder}/first.yaml"),
        settings={"continual.method": "finetune", "sweep.test_fraction": 0.4},
        results=("continual/finetune/srcc.csv", "continual/finetune/steps/01-first/bundle/model.safetensors"),
        unlike=("run_id",),
        dies_after=3,
    ),
    "evaluate": Job(
        needs=("sweep",), settings={"score.model": f"{{output}}/{TRIAL}/bundle"}, results=("evaluate/evaluation.json",)
    ),
    "register": Job(
        needs=MODEL, settings={"register.bundle": ADAPTED, "register.name": "jobs {run}"}, unlike=("name", "reason")
    ),
    "card": Job(needs=MODEL, arguments=(ADAPTED,), unlike=("way",)),
    "export": Job(needs=MODEL, arguments=(ADAPTED, "--to", "safetensors"), results=("export/model.safetensors",)),
    "score": Job(
        needs=MODEL,
        arguments=(TARGET, "--model", ADAPTED, "--output", "{output}/scores.parquet"),
        settings={"score.local_images": 0},
        results=("scores.parquet",),
    ),
    "explain": Job(
        needs=MODEL,
        arguments=(f"{TARGET}/0.png", "--model", ADAPTED),
        results=("explain/explanations.parquet",),
        dies_after=2,
    ),
    "threshold": Job(
        needs=MODEL, settings={"score.model": ADAPTED, "threshold.pass_mos": 1, "threshold.precision": 0.5}
    ),
    "compare": Job(needs=MODEL, arguments=(f"{TARGET}/0.png", f"{TARGET}/1.png", "--model", ADAPTED)),
    "drift": Job(
        needs=("scores.parquet",), arguments=("{output}/scores.parquet", "--reference", "{output}/scores.parquet")
    ),
    "sync": Job(unlike=("runs",)),
}
"""In an order in which each finds what it needs."""
NO_JOBS = {
    "rate": "a page for people on one machine",
    "next": "reads the vote log and the image folder of the rating page, which are on its machine",
    "serve": "has no end; its replicas are what survives, and what tests/pipelines/serving kills",
    "doctor": "looks before a long run, writes nothing, and says what it finds of the moment",
    "demo": "the whole way by the commands above, on embedded data",
    "import_official": "reads one file of the published code, with the ViT-B/16 that belongs to it",
    "train_backbone": "makes the weights in the package, has options of its own, and works in a local folder",
}
"""Commands with no sense as a job, and the reason."""
SETTINGS: dict[str, Any] = {
    "views": {"train_views": 1, "score_grid": 1},
    "synthesize": {"references": 2, "tasks": ["gaussian_blur", "white_noise"], "query_fraction": 0.5},
    "meta": {"outer_steps": 2, "batch_size": 2},
    "pretrain": {"workers": 0, "checkpoint_every": 1},
    "adapt": {"epochs": 1, "folds": 2},
    "sweep": {"lambdas": [0.0], "shots": [6], "split_seeds": [0]},
    "distil": {"workers": 0},
    "target": {"path": f"{TARGET}/labels.csv", "score_min": 0, "score_max": 10},
}


def command_line(name: str, run: str, folder: str) -> list[str]:
    """Arguments of a command in the run `run`, whose output is `s3://jobs/<run>`; `folder` has the configuration."""
    job = JOBS[name]
    words = {"output": f"s3://jobs/{run}", "run": run, "folder": folder}
    settings = {"output": "{output}", **job.settings}
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [word.format(**words) for word in [*job.arguments, "--json", "--config", "{folder}/jobs.yaml", *changes]]
