"""Cost per image of `grmp serve` itself: its processes around a stand-in for the model, which sleeps.

    python -m tests.benchmarks.serving_itself [--ingresses 1] [--seconds 6] [--clients 1 8 32]

With RAY_SERVE_ENABLE_HA_PROXY=1 in the environment, HAProxy takes the place of Ray Serve's own proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import tempfile
from typing import Any
from unittest import mock

from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.runtime.ray_session import ray_session
from pipelines.serving import application
from pipelines.serving.answers import row_without_score
from pipelines.serving.server import serving
from tests.benchmarks.serving import PICTURES, SERVE, clients, for_seconds, pictures, throughput

MODEL, QUALITY, SLEEP_S = "a stand-in", 0.5, 0.02


class StandIn:
    """A scoring replica without a model: each image is answered after `SLEEP_S`, several at a time."""

    def __init__(self, config: Config) -> None:
        pass

    async def score(self, data: bytes, time_left_s: float) -> dict[str, Any]:
        await asyncio.sleep(SLEEP_S)
        return {**row_without_score("", ""), "error": None, "quality": QUALITY, "model": MODEL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ingresses", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    photos, expected = pictures(), {MODEL: [QUALITY] * PICTURES}
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(application, "ScoringReplica", StandIn):
        settings = dataclasses.replace(SERVE, ingresses=options.ingresses)
        config = dataclasses.replace(load_config(None), output=folder, serve=settings)
        with ray_session(), serving(config) as server:
            clients(f"{server.address}/score", photos, max(options.clients), for_seconds(2))  # first calls take longer
            throughput(server.address, photos, options, expected)


if __name__ == "__main__":
    main()
