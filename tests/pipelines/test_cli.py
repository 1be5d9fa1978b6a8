"""The command line without Ray: help, exit codes, one line for bad input."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest
from ray.exceptions import RayTaskError

from grmp_core.errors import InputError
from pipelines import report
from pipelines.cli import COMMANDS, _positional, main
from pipelines.configuration.loading import load_config


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_settings(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name].summary in shown
    assert "output: runs/demo" in shown


def test_no_command_shows_all_of_them(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["swep"], "'swep' is no command"),
        (["sweep", "--set", "sweep.lamdas=[1]"], "sweep.lamdas is unknown; did you mean sweep.lambdas?"),
        (["sweep", "--config", "none.yaml"], "none.yaml does not exist"),
        (["report", "--set", "output=/tmp/grmp-nothing-here"], "sweep"),
        (["score", "missing.jpg", "--model", "/tmp/grmp-nothing-here"], "/tmp/grmp-nothing-here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_file_s_name_arrives_as_it_is(capsys):
    assert main(["score", "no-such-\N{GRINNING FACE}.jpg", "--model", "/tmp/grmp-nothing-here"]) == 2
    name = "\N{GRINNING FACE} 'x': [#] \x85 \x7f \udce9 " + 300 * "long " + ".jpg"
    parsed = load_config(None, _positional("score", argparse.Namespace(images=[name], model=name, output=None)))
    assert parsed.score.images == (name,)
    assert parsed.score.model == name


def test_what_a_worker_refuses_is_one_line(monkeypatch, capsys):
    """Ray makes of an InputError one whose text is the worker's traceback."""

    def refuse(config):
        raise RayTaskError("work", "Traceback\n  File ...", InputError("fix it")).as_instanceof_cause()

    monkeypatch.setattr(report, "run", refuse)
    assert main(["report"]) == 2
    assert capsys.readouterr().err.strip() == "grmp report: fix it"


def test_a_module_runs_like_its_command():
    command = [sys.executable, "-m", "pipelines.pretrain", "--set", "output=/tmp/grmp-nothing-here"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("grmp pretrain: no task store at /tmp/grmp-nothing-here")
