"""Kill something at a random moment, run the same command again, compare with the undisturbed run; many times.

`python -m tests.chaos --kills 20 --seed 0 --out DIR` starts a two-node cluster on this machine and prints a table of
outcomes, which DIR/chaos.csv holds, too. Exit code 1 when a result was lost or differs, when a run hung, or began anew
although there was something to go on from. Takes minutes a kill.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import torch
import yaml

from cluster import submit
from cluster.local_nodes import ClusterError, LocalCluster
from cluster.processes import wait_until, with_descendants
from grmp_core.errors import InputError
from grmp_core.model.bundle import read_bundle
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.runtime.console import say, table
from tests.checkpoints import GOES_ON, has_checkpoint

NUM_IMAGES = 15
MAX_RERUNS = 2
JOB_TIMEOUT_S = 400
"""A job that takes longer hangs: it is stopped and run again."""
VICTIMS = ("worker", "node", "driver", "head")
HELPERS = ("ray::IDLE", "ray::JobSupervisor", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::_StatsActor")
"""Ray processes that do no work of a job."""
KEPT = {"pretrain": rf"{GOES_ON} (\d+)", "sweep": r"trials, (\d+) already finished"}
"""Lines in which a resumed run says what it need not do again."""
SETTINGS = {
    "views": {"train_views": 2, "score_grid": 1},
    "synthesize": {"references": 5, "tasks": ["gaussian_blur", "white_noise"]},
    "meta": {"outer_steps": 24, "batch_size": 3, "outer_lr": 0.5},
    "pretrain": {"workers": 2, "checkpoint_every": 1},
    "adapt": {"epochs": 2, "folds": 2, "lr": 0.01},
    "sweep": {"lambdas": [0, 5], "shots": [6], "split_seeds": [0, 1]},
}


@dataclass(frozen=True)
class Outcome:
    kill: int
    workload: str
    victim: str
    after_s: float
    """Seconds between the submission and the kill."""
    outcome: str
    kept: int
    """Outer steps or trials that were not done again."""
    reruns: int
    seconds: float

    @property
    def good(self) -> bool:
        return self.outcome in ("went on", "run again", "was over")


class Arena:
    """A cluster, the undisturbed results, and the means to disturb."""

    def __init__(self, cluster: LocalCluster, folder: Path, rng: random.Random) -> None:
        self._cluster, self._folder, self._rng = cluster, folder, rng
        self._undisturbed = folder / "undisturbed"
        self._seconds: dict[str, float] = {}
        self._could_go_on = False
        self._connect()

    def prepare(self) -> None:
        """Run everything once without a kill: results to compare with, and how long each workload takes."""
        write_settings(self._folder)
        for workload in ("synthesize", "pretrain", "sweep"):
            began = time.monotonic()
            job = self._submit(workload, self._undisturbed)
            if self._end(job) != "SUCCEEDED":
                raise RuntimeError(f"the undisturbed {workload} failed:\n{self._client.get_job_logs(job)}")
            self._seconds[workload] = time.monotonic() - began
            say(f"chaos: undisturbed {workload} took {self._seconds[workload]:.0f} s")

    def disturb(self, number: int) -> Outcome:
        """One job, one kill, and as many runs of the same command as it then takes."""
        workload = ("pretrain", "sweep")[number % 2]
        victim = self._rng.choice(VICTIMS)
        moment_s = self._rng.uniform(0.1, 0.95) * self._seconds[workload]
        output = self._folder / f"kill-{number:02}-{workload}-{victim}"
        self._give_inputs(output, workload)
        self._could_go_on = False
        began = time.monotonic()
        job = self._submit(workload, output)
        hit = self._kill_at(began + moment_s, job, victim, workload, output)
        after_s = time.monotonic() - began
        if hit and victim == "node":
            self._cluster.add_node()
        if hit and victim == "head":
            self._restart()
            ends = ["LOST WITH THE HEAD"]
        else:
            ends = [self._end(job)]
        while ends[-1] != "SUCCEEDED" and len(ends) <= MAX_RERUNS:
            job = self._submit(workload, output)
            ends.append(self._end(job))
        log = self._client.get_job_logs(job)
        kept = max((int(count) for count in re.findall(KEPT[workload], log)), default=0)
        began_anew = len(ends) > 1 or log.count("outer step 1/") > 1
        outcome = self._judge(workload, output, log, ends, hit)
        if self._could_go_on and began_anew and not kept:
            outcome = f"BEGAN ANEW, {outcome}"
        seconds = round(time.monotonic() - began, 1)
        return Outcome(number, workload, victim, round(after_s, 1), outcome, kept, len(ends) - 1, seconds)

    def _judge(self, workload: str, output: Path, log: str, ends: list[str], hit: bool) -> str:
        if ends[-1] != "SUCCEEDED":
            (output / "log.txt").write_text(log)
            return f"LOST ({ends[-1]})"
        difference = COMPARE[workload](output, self._undisturbed)
        if difference:
            return f"DIFFERS ({difference})"
        if "HUNG" in ends:
            return "HUNG, then run again"
        if not hit:
            return "was over"
        return "run again" if len(ends) > 1 else "went on"

    def _connect(self) -> None:
        address, token_file = self._cluster.dashboard_url, str(self._cluster.token_file)
        options = ["--address", address, "--token-file", token_file, "--no-working-dir"]
        self._options = submit.options_parser().parse_args(options)
        self._client = submit.connect(submit.request_of(self._options, ["true"], os.environ))

    def _restart(self) -> None:
        """A new head knows neither the nodes nor the jobs of the old one, as where Ray keeps its state in no Redis."""
        self._cluster.stop()
        self._cluster.start()
        self._connect()

    def _submit(self, workload: str, output: Path) -> str:
        settings = ["--config", str(self._folder / "small.yaml"), "--set", f"output={output}"]
        command = ["python", "-m", f"pipelines.{workload}", *settings]
        return submit.submit(self._client, submit.request_of(self._options, command, {}))

    def _status(self, job: str) -> str:
        return str(self._client.get_job_status(job).value)

    def _running(self, job: str) -> bool:
        return self._status(job) in ("PENDING", "RUNNING")

    def _end(self, job: str) -> str:
        """The job's last status, HUNG when it had to be stopped."""
        if wait_until(lambda: not self._running(job), JOB_TIMEOUT_S, poll_s=1):
            return self._status(job)
        self._client.stop_job(job)
        wait_until(lambda: not self._running(job), timeout_s=30, poll_s=1)
        return "HUNG"

    def _give_inputs(self, output: Path, workload: str) -> None:
        """Inputs of the workload, from the undisturbed run."""
        output.mkdir()
        for name in ("tasks", "pretrain")[: 1 if workload == "pretrain" else 2]:
            (output / name).symlink_to(self._undisturbed / name)

    def _kill_at(self, moment: float, job: str, victim: str, workload: str, output: Path) -> bool:
        """Whether there was something to kill at that moment, or soon after, before the job was over."""
        time.sleep(max(0.0, moment - time.monotonic()))
        while self._running(job):
            self._could_go_on = LEAVES[workload](output)
            if self._kill(victim, workload):
                return True
            time.sleep(0.1)
        return False

    def _kill(self, victim: str, workload: str) -> bool:
        nodes = [node for node in self._cluster.state.nodes if node.process()]
        if victim in ("node", "head"):
            self._cluster.kill_node(nodes[-1 if victim == "node" else 0].index)
            return True
        everything = [one for node in nodes if (process := node.process()) for one in with_descendants(process)]
        is_victim: Callable[[str], bool] = (
            (lambda line: f"-m pipelines.{workload}" in line) if victim == "driver" else works
        )
        doomed = [process for process in everything if is_victim(command_line(process))]
        if not doomed:
            return False
        self._rng.choice(doomed).kill()
        return True


def works(line: str) -> bool:
    """Whether a process with this command line does a job's work."""
    return line.startswith("ray::") and not line.startswith(HELPERS)


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def compare_prompts(ours: Path, expected: Path) -> str:
    """Differences, empty for none: two workers add up in another order than one, hence the tolerance."""
    actual, reference = (read_bundle(locate(place / "pretrain" / "bundle")).parameters for place in (ours, expected))
    if actual.keys() != reference.keys():
        return "other prompts"
    worst = max(float((actual[name] - reference[name]).abs().max()) for name in reference)
    same = all(torch.allclose(actual[name], reference[name], rtol=1e-6, atol=1e-9) for name in reference)
    return "" if same else f"by up to {worst:.1e}"


def compare_sweeps(ours: Path, expected: Path) -> str:
    """Differences, empty for none; times and places may differ."""
    actual, reference = (
        pd.read_parquet(place / "sweep" / "results.parquet").drop(columns=["seconds", "bundle"])
        for place in (ours, expected)
    )
    return "" if actual.equals(reference) else f"in {', '.join(actual.columns[(actual != reference).any()])}"


LEAVES: Mapping[str, Callable[[Path], bool]] = {
    "pretrain": lambda output: has_checkpoint(output / "pretrain"),
    "sweep": lambda output: any(output.glob("sweep/trials/*/trial.json")),
}
"""Whether an output has something to go on from."""
COMPARE: Mapping[str, Callable[[Path, Path], str]] = {"pretrain": compare_prompts, "sweep": compare_sweeps}


def write_settings(folder: Path) -> None:
    """`small.yaml` and the labelled pictures it names."""
    target = folder / "target"
    target.mkdir(parents=True)
    for i in range(NUM_IMAGES):
        picture = scenes.reference(500 + i, 230, 240)
        cv2.imwrite(str(target / f"{i}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    labels = pd.DataFrame({"image": [f"{i}.png" for i in range(NUM_IMAGES)], "mos": np.linspace(1, 9, NUM_IMAGES)})
    labels.to_csv(target / "labels.csv", index=False)
    settings = {
        **SETTINGS,
        "target": {"path": str(target / "labels.csv"), "score_min": 0, "score_max": 10},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))


def main(arguments: Sequence[str] | None = None) -> int:
    """-> exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the victims and moments")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options = parser.parse_args(arguments)
    folder = options.out.absolute()
    if folder.exists():
        print(f"chaos: {folder} exists; give a new --out", file=sys.stderr)
        return 2
    folder.mkdir(parents=True)
    try:
        outcomes = run(folder, options.kills, random.Random(options.seed))  # noqa: S311  # no secret
    except (InputError, ClusterError) as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    print(table([asdict(outcome) for outcome in outcomes]))
    return 0 if all(outcome.good for outcome in outcomes) else 1


def run(folder: Path, kills: int, rng: random.Random) -> list[Outcome]:
    """All kills on one cluster, the table on disk after each: a long script may be interrupted."""
    outcomes: list[Outcome] = []
    with LocalCluster(nodes=2, cpus_per_node=1, folder=folder / "cluster") as cluster:
        arena = Arena(cluster, folder, rng)
        arena.prepare()
        for number in range(kills):
            outcomes.append(arena.disturb(number))
            say(f"chaos: {outcomes[-1]}")
            write_table(folder / "chaos.csv", outcomes)
    return outcomes


def write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(outcomes[0])))
        writer.writeheader()
        writer.writerows(asdict(outcome) for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
