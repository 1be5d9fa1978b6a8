"""`grmp serve` scores images over HTTP, with Ray Serve."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.serving.server import Served


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="bundle folder or models:/name@alias (score.model)")
    parser.add_argument("--host", help="address to listen on (serve.host)")
    parser.add_argument("--port", type=int, help="port to listen on (serve.port)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"score.model": options.model, "serve.host": options.host, "serve.port": options.port}
    return {key: value for key, value in given.items() if value is not None}


def run(config: Config) -> Served:
    from pipelines.serving.server import serve_model  # `--help` does without it

    return serve_model(config)


if __name__ == "__main__":
    module_main("serve")
