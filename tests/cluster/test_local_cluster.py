"""A real two-node cluster with token authentication: what a user would submit, and what must be refused."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from functools import partial

import psutil
import pytest

from cluster.local_cluster import main
from cluster.local_nodes import LocalCluster
from cluster.processes import Node, free_ports, wait_until
from grmp_core.errors import InputError
from tests.cluster.conftest import ROOT, TASKS, client_environment, output_of, submit_command, submitted


def test_two_nodes_are_there_and_the_token_is_for_its_owner_only(cluster):
    assert len(cluster.alive_in_ray()) == 2
    assert stat.S_IMODE(cluster.token_file.stat().st_mode) == 0o600


def test_other_ray_programs_of_the_machine_do_not_find_it(cluster):
    """A plain ray.init() joins what is written in the default temporary folder."""
    from ray._private.utils import read_ray_address

    port = cluster.address.rpartition(":")[2]
    assert not (read_ray_address() or "").endswith(f":{port}")


def test_a_submitted_workload_succeeds_with_its_uploaded_configuration(job_folder, synthesized):
    assert synthesized.returncode == 0, synthesized.stderr + synthesized.stdout
    manifest = json.loads((output_of(job_folder) / "tasks" / "manifest.json").read_text())
    assert manifest["config"]["synthesize"]["tasks"] == TASKS


def test_a_bad_configuration_ends_the_job_with_one_line_and_code_2(cluster, job_folder):
    done = submitted(cluster, job_folder, ["python", "-m", "pipelines.sweep", "--set", "swep.shots=[1]"])
    assert done.returncode == 2
    assert "grmp sweep: configuration: swep is unknown; did you mean sweep?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_failing_command_is_1_and_says_how_it_ended(cluster, job_folder):
    done = submitted(cluster, job_folder, ["python", "-c", "raise SystemExit(7)"])
    assert done.returncode == 1
    assert "exit code 7" in done.stderr


@pytest.mark.parametrize(("token", "message"), [("f" * 64, "refuses the token"), (None, "wants a token")])
def test_a_wrong_or_missing_token_is_refused_in_one_line(cluster, job_folder, tmp_path, token, message):
    if token:
        (tmp_path / "token").write_text(token)
    command = submit_command(cluster, job_folder, ["true"], tmp_path / "token" if token else None)
    environment = client_environment(tmp_path)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("submit: ")
    assert message in line


def test_ctrl_c_leaves_the_job_and_says_how_to_end_it(cluster, job_folder):
    command = submit_command(cluster, job_folder, ["sh", "-c", "echo begun; sleep 60"], cluster.token_file)
    environment = client_environment(job_folder)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )
    assert process.stdout is not None
    assert any("begun" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "ray job stop --address" in errors


def test_status_in_another_process_sees_the_same_nodes(cluster, capsys):
    assert main(["status", "--dir", str(cluster.folder)]) == 0
    shown = capsys.readouterr().out
    assert "alive in Ray: 2" in shown
    assert f"export RAY_AUTH_TOKEN_PATH={cluster.token_file}" in shown


def test_a_second_start_in_the_same_folder_is_refused_and_harms_none(cluster, capsys):
    assert main(["start", "--dir", str(cluster.folder)]) == 2
    assert "already runs" in capsys.readouterr().err
    with pytest.raises(InputError, match="already runs"), LocalCluster(folder=cluster.folder):
        pass
    assert len(cluster.alive_in_ray()) == 2


def test_without_a_cluster_the_commands_say_so(tmp_path, capsys):
    for command in ("status", "stop"):
        assert main([command, "--dir", str(tmp_path)]) == 2
        assert "no local cluster in" in capsys.readouterr().err


def test_sizes_that_make_no_cluster_are_refused():
    with pytest.raises(InputError, match="nodes must be 1 or more"):
        LocalCluster(nodes=0)


def test_a_recorded_process_is_not_taken_for_a_later_one_with_its_id():
    me = psutil.Process(os.getpid())
    assert Node(0, me.pid, me.create_time()).process() == me
    assert Node(0, me.pid, me.create_time() - 1).process() is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    node = Node(0, ended.pid, psutil.Process(ended.pid).create_time())
    assert wait_until(lambda: node.process() is None, timeout_s=20), "a zombie is no running process"
    ended.wait()


def test_free_ports_differ():
    assert len(set(free_ports(20, "127.0.0.1"))) == 20
