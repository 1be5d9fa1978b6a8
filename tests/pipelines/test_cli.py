"""The command line without Ray: help, exit codes, one line for bad input."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image
from ray.exceptions import RayTaskError

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import bootstrap_interval, evaluate, srcc
from pipelines import cli, report, score
from pipelines.cli import COMMANDS, main
from pipelines.configuration.loading import load_config
from pipelines.configuration.problems import MOVED
from pipelines.runtime.provenance import git_commit
from pipelines.scoring.target_evaluation import Evaluation


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_settings(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name].summary in shown or name == "train_backbone"
    settings = [f"\n{section}: " in shown for section in ("backbone", *COMMANDS[name].sections)]
    assert all(settings) or name == "train_backbone"


def test_no_command_shows_all_of_them(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_version_is_that_of_the_package_and_of_the_commit(capsys):
    assert main(["--version"]) == 0
    shown = capsys.readouterr().out.strip()
    commit = git_commit()
    assert shown == f"grmp-iqa {version('grmp-iqa')}" + (f" (source tree at {commit})" if commit else "")


@pytest.mark.parametrize("arguments", [["--help"], [], ["swep"]])
def test_the_overview_imports_nothing_that_takes_time(arguments):
    code = (
        "import sys; from pipelines.cli import main; main(sys.argv[1:])\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'numpy', 'pydantic', 'yaml'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_of_no_command_imports_torch_ray_or_mlflow():
    code = (
        "import sys; from pipelines.cli import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit: pass\n"
        "    print('imported:', name, sorted({'torch', 'open_clip', 'ray', 'mlflow'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert imported == [f"imported: {name} []" for name in COMMANDS]


def test_a_few_images_are_scored_without_ray_and_a_worker_scores_without_mlflow(tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (240, 240)).save(picture)
    code = (
        "import sys; from pipelines.cli import main\n"
        "assert main(['score', sys.argv[1], '--model', 'backbone', '--set', 'score.grid=1']) == 0\n"
        "heavy = {'ray', 'mlflow', 'matplotlib', 'scipy.stats'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
        "import pipelines.scoring.cluster_scorer\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "['ray']"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["swep"], "unknown command 'swep'; did you mean sweep?"),
        (["sweep", "--set", "sweep.lamdas=[1]"], "sweep.lamdas is unknown; did you mean sweep.lambdas?"),
        (["sweep", "--config", "none.yaml"], "none.yaml does not exist"),
        (["report", "--set", "output=/tmp/grmp-nothing-here"], "sweep"),
        (["score", "missing.jpg", "--model", "/tmp/grmp-nothing-here"], "missing.jpg: there is no such file or folder"),
        (["score", __file__, "--model", "/tmp/grmp-nothing-here"], "/tmp/grmp-nothing-here"),
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
    given = score.overrides(argparse.Namespace(images=[name], model=name, output=None, fps=None, window=None))
    parsed = load_config(None, arguments=given)
    assert parsed.score.images == (name,)
    assert parsed.score.model == name


def test_what_a_worker_refuses_is_one_line(monkeypatch, capsys):
    """Ray makes of an InputError one whose text is the worker's traceback."""

    def refuse(config):
        raise RayTaskError("work", "Traceback\n  File ...", InputError("fix it")).as_instanceof_cause()

    monkeypatch.setattr(report, "run", refuse)
    assert main(["report"]) == 2
    assert capsys.readouterr().err.strip() == "grmp report: fix it"


@pytest.mark.filterwarnings("ignore::grmp_core.evaluation.logistic_map.FitWarning")
def test_json_output_has_null_for_what_is_not_defined(monkeypatch, capsys):
    """Two pictures with the same score: no SRCC, no interval."""
    scores = evaluate([0.5, 0.5], [1.0, 2.0])
    result = Evaluation("model", scores, *bootstrap_interval(srcc, [0.5, 0.5], [1.0, 2.0]), learned_from=0)
    monkeypatch.setattr(report, "run", lambda config: result)
    assert main(["report", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["srcc"] is None
    assert shown["srcc_interval"] == [None, None]
    assert shown["n"] == 2
    assert "none: fewer than 10 images" in result.as_text()


def test_a_module_runs_like_its_command():
    command = [sys.executable, "-m", "pipelines.report", "--set", "output=/tmp/grmp-nothing-here"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("grmp report: no sweep results at /tmp/grmp-nothing-here")


def test_the_files_at_the_top_are_the_commands_and_short():
    files = {file.stem: file for file in Path(cli.__file__).parent.glob("*.py")}
    assert files.keys() - {"__init__", "cli"} == COMMANDS.keys()
    for name in COMMANDS:
        assert len(files[name].read_text().splitlines()) <= 80, f"{name}.py does more than to call one room"


@pytest.mark.parametrize("key", MOVED)
def test_keys_of_earlier_versions_name_their_successor(key, capsys):
    value = "{ablation: true}" if key == "evaluate" else "x.html"
    assert main(["sweep", "--set", f"{key}={value}"]) == 2
    assert f"{key} is now {MOVED[key]}" in capsys.readouterr().err
