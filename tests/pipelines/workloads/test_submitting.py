"""Answers of a cluster and a command line: jobs, resources that are not there, bad input."""

from __future__ import annotations

import dataclasses
import sys
import time

import pytest
import ray

from grmp_core.errors import InputError
from grmp_core.model.bundle import read_bundle
from grmp_core.storage import locate
from grmp_core.tasks.task_store import TaskStore
from pipelines.cli import run_command
from pipelines.configuration.scoring import ScoreConfig
from pipelines.few_shot.adaptation_run import adapt_to_all_labels
from pipelines.scoring import batch_scorer
from pipelines.sweeping.sweep_run import run_sweep
from tests.pipelines.workloads.small import ROOT

pytestmark = pytest.mark.ray


def test_gpus_that_are_not_there_are_refused_by_every_workload_that_wants_them(config, prompts):
    on_gpus = dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, gpus_per_trial=0.5))
    for workload in (run_sweep, adapt_to_all_labels):
        with pytest.raises(InputError, match=r"wants 1 x 1 CPU and 0\.5 GPU; the cluster has .* lower sweep\.cpus"):
            workload(on_gpus)
    scoring = dataclasses.replace(config, score=ScoreConfig(gpus_per_worker=1, workers=3))
    place = locate(config.output) / "pretrain" / "bundle"
    many = [f"{i}.png" for i in range(3)]
    with pytest.raises(InputError, match=r"score wants 3 x 1 GPU; the cluster has 0 GPU .* lower score\.workers"):
        batch_scorer.score_paths(scoring, read_bundle(place), place.uri, many)


def submitted(client, command: str, environment: dict, deadline: float) -> str:
    """Id of the job. On a busy machine a fresh Ray needs a while until it takes one."""
    while True:
        try:
            return client.submit_job(entrypoint=command, runtime_env=environment)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.time() > deadline:
                raise
            time.sleep(2)


def test_a_submitted_job_does_the_same_and_a_bad_one_says_why(config, output, store):
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(f"http://{ray._private.worker.global_worker.node.address_info['webui_url']}")
    settings = [f"output={output / 'job'}", "synthesize.references=4", "synthesize.tasks=[jpeg]"]
    command = f"{sys.executable} -m pipelines.synthesize --json " + " ".join(f"--set {setting}" for setting in settings)
    environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    deadline = time.time() + 240
    jobs = {
        "good": submitted(client, command, environment, deadline),
        "bad": submitted(client, command + " --set swep.shots=[1]", environment, deadline),
    }
    while time.time() < deadline and not all(client.get_job_status(job).is_terminal() for job in jobs.values()):
        time.sleep(1)
    assert client.get_job_status(jobs["good"]) == JobStatus.SUCCEEDED, client.get_job_logs(jobs["good"])
    assert TaskStore(locate(output / "job" / "tasks")).tasks == ("jpeg",)
    assert client.get_job_status(jobs["bad"]) == JobStatus.FAILED
    assert client.get_job_info(jobs["bad"]).driver_exit_code == 2
    assert "swep is unknown; did you mean sweep?" in client.get_job_logs(jobs["bad"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "--set", "output=/tmp/grmp-nothing-here"], "no task store"),
        (["sweep", "--set", "output=/tmp/grmp-nothing-here"], "no pre-trained prompts"),
        (["score"], "nothing to score"),
        (["pretrain", "--config", "none.yaml"], "does not exist"),
        (["synthesize", "--set", "synthesize.tasks=[gausian_blur]"], "gaussian_blur"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, ray_instance):
    assert run_command(arguments[0], arguments[1:]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith(f"grmp {arguments[0]}: ")
