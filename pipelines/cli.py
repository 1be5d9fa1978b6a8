"""`grmp …`: one command a workload. Every command also runs as `python -m pipelines.<name>` for `ray job submit`."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from grmp_core.errors import InputError
from grmp_core.strict_json import json_text


@dataclass(frozen=True)
class Command:
    summary: str
    sections: tuple[str, ...] = ()
    """Parts of the configuration that its --help shows."""


COMMANDS = {
    "rate": Command("rate images on a page of this machine, and turn votes into labels", ("rate",)),
    "next": Command("name the images to rate next, and say when labels are enough", ("next", "rate")),
    "synthesize": Command("make distortion tasks from pristine pictures (Ray Data)", ("synthesize",)),
    "preview": Command("draw a contact sheet of the distortion tasks and their labels", ("preview", "synthesize")),
    "pretrain": Command("meta-learn the prompts over the tasks (Ray Train)", ("meta", "prompts", "pretrain")),
    "inspect": Command("look at labelled images: scores, sizes, duplicates, leaks, splits", ("inspect", "target")),
    "adapt": Command("adapt the prompts to all labelled images", ("adapt", "views", "target")),
    "distil": Command("train a small student on a teacher's scores (Ray Data, Ray Train)", ("distil", "target")),
    "sweep": Command("adapt over lambda x labels x splits (Ray Tune)", ("sweep", "adapt", "views", "target")),
    "ablate": Command(
        "compare the parts of the method and baselines on one target", ("ablate", "protocol", "sweep", "target")
    ),
    "cross": Command("test the models of one set's sweep on others: a matrix", ("cross",)),
    "continual": Command("learn from labelled sets that arrive one after the other", ("continual", "adapt", "views")),
    "evaluate": Command("compare a model's scores with human ones: SRCC, PLCC, KRCC, RMSE", ("score", "target")),
    "import_official": Command("make a model of a checkpoint of the published code", ("import_official",)),
    "report": Command("write the sweep's report again, or compare two sweeps", ("report",)),
    "register": Command("put the chosen model into the MLflow registry", ("register", "tracking")),
    "card": Command("show where a model comes from, its numbers, and the rights in it", ("card",)),
    "export": Command("write a model as ONNX, safetensors, or a Hugging Face folder", ("export",)),
    "score": Command("score images (Ray Data) or videos", ("score", "video", "images")),
    "explain": Command("say why images have their scores: where, and from what damage", ("explain", "score")),
    "threshold": Command("the score above which images pass, with a stated error rate", ("threshold", "score")),
    "compare": Command("which of two images or folders of the same scenes is better", ("compare", "score")),
    "serve": Command("score images over HTTP (Ray Serve)", ("serve", "score", "images")),
    "drift": Command("compare scores with those at registration", ("drift", "score")),
    "doctor": Command("check the cluster and the configuration before a long run", ("pretrain", "sweep", "tracking")),
    "sync": Command("log to MLflow what could not be logged earlier", ("tracking",)),
    "demo": Command("run the whole way on embedded data"),
    "train_backbone": Command("train the embedded backbone (options of its own)"),
}
"""A file of this name at the top of `pipelines` has `run(config)`, and `add_arguments(parser)` and `overrides(options)`
where a command has arguments of its own; one with `main(arguments)` parses them by itself."""
OK, FAILURE, BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; -> exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return OK if arguments else BAD_INPUT
    if arguments[0] == "--version":
        from pipelines.runtime.provenance import own_version

        print(own_version())
        return OK
    name, rest = arguments[0].replace("-", "_"), arguments[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}"
        print(f"grmp: unknown command '{arguments[0]}'; {hint}", file=sys.stderr)
        return BAD_INPUT
    return run_command(name, rest)


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse `arguments`, run one command, print its result; -> exit code."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter must not end a run that is done
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    command = importlib.import_module(f"pipelines.{name}")
    if hasattr(command, "main"):
        return int(command.main(arguments))
    options = parser_of(name).parse_args(arguments)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(ray|mlflow)\b.*")
    try:
        from pipelines.configuration.loading import load_config  # `--help` does without it

        given = command.overrides(options) if hasattr(command, "overrides") else {}
        config = load_config(options.config, options.set, given)
        result = command.run(config)
    except InputError as error:
        cause = getattr(error, "cause", None)  # Ray puts the worker's whole traceback around what a worker raised
        print(f"grmp {name}: {cause or error}", file=sys.stderr)
        return BAD_INPUT
    print(json_text(result.as_json(), indent=2) if options.json else result.as_text())
    return getattr(result, "exit_code", OK)


def module_main(name: str) -> None:
    """Body of `python -m pipelines.<name>`."""
    sys.exit(run_command(name, sys.argv[1:]))


class _CommandParser(argparse.ArgumentParser):
    """Its --help ends with the settings of the command."""

    sections: tuple[str, ...] = ()

    def format_help(self) -> str:
        from pipelines.configuration.field_help import settings_help  # only where help is asked for

        return f"{super().format_help()}\n{settings_help(self.sections)}\n"


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command that has `run`."""
    command = importlib.import_module(f"pipelines.{name}")
    parser = _CommandParser(prog=f"grmp {name}", description=COMMANDS[name].summary)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.sections = COMMANDS[name].sections
    parser.add_argument("--config", metavar="FILE", help="YAML configuration")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one setting; the text after = is the value",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    if hasattr(command, "add_arguments"):
        command.add_arguments(parser)
    return parser


def _overview() -> str:
    lines = [f"  {name:<16} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: grmp COMMAND [--config ray_config.yaml] [--set section.key=value] [--json]",
            "       grmp --version",
            "",
            *lines,
            "",
            "`grmp COMMAND --help` explains the settings of a command, with types, ranges and defaults.",
            "exit codes: 0 done, 2 bad input or configuration (one line says what, where, and the fix), 1 failure",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
