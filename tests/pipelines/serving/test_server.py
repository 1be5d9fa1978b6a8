"""One server on the Ray of the test run: the same scores as `grmp score`, and no request lost."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import requests
from mlflow import MlflowClient

from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import write_bundle
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.configuration.serving import ServeConfig
from pipelines.scoring.score_rows import SCORES
from pipelines.scoring.scoring_run import score_images
from pipelines.serving.server import serving
from tests.pipelines.scoring.conftest import encoded

pytestmark = pytest.mark.ray
NAME = "served-online"
IMAGES = 4
COLUMNS = [name for name in SCORES.names if name != "image_path"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@dataclass(frozen=True)
class Running:
    url: str
    client: MlflowClient
    pictures: list[bytes]
    scores: dict[str, list[dict[str, Any]]]
    """Version -> rows of `grmp score`."""

    def post(self, pictures: list[bytes]) -> requests.Response:
        files = [("images", (f"{i}.png", data)) for i, data in enumerate(pictures)]
        return requests.post(f"{self.url}/score", files=files, timeout=60)


@pytest.fixture(scope="module")
def running(ray_instance, mlflow_store, tmp_path_factory) -> Iterator[Running]:
    """A server of two replicas whose champion has two versions."""
    folder = tmp_path_factory.mktemp("serving")
    client = MlflowClient(mlflow_store.uri, mlflow_store.uri)
    client.create_registered_model(NAME)
    pictures = [encoded(seed) for seed in range(IMAGES)]
    for i, data in enumerate(pictures):
        (folder / f"{i}.png").write_bytes(data)
    first = arms.random_prompts(Config(views=ViewConfig(score_grid=1)))
    context = {name: 20 * tensor if "context" in name else tensor for name, tensor in first.parameters.items()}
    scale = ScoreRange(mos_min=0, mos_max=100)
    second = dataclasses.replace(first, parameters=context, score_range=scale)
    scores = {}
    config = Config(output=str(folder / "run"), tracking=TrackingConfig(uri=mlflow_store.uri))
    for number, bundle in enumerate((dataclasses.replace(first, score_range=scale), second), start=1):
        source = folder / f"source{number}"
        write_bundle(locate(source / "artifacts" / "bundle"), bundle)
        client.create_model_version(NAME, str(source))
        paths = tuple(str(folder / f"{i}.png") for i in range(IMAGES))
        settings = ScoreConfig(images=paths, model=f"models:/{NAME}/{number}")
        scores[f"models:/{NAME}/{number}"] = score_images(dataclasses.replace(config, score=settings)).as_json()[
            "scores"
        ]
    client.set_registered_model_alias(NAME, "champion", "1")
    settings = ServeConfig(port=free_port(), replicas=2, follow_s=0.5, max_images=8, max_queue=64)
    served = dataclasses.replace(config, score=ScoreConfig(model=f"models:/{NAME}@champion"), serve=settings)
    with serving(served) as server:
        yield Running(server.address, client, pictures, scores)
    shutil.rmtree(folder)


def check(running: Running, rows: list[dict[str, Any]]) -> set[str]:
    """The versions of the rows, each of which has the columns of its version's table to the last bit."""
    for row in rows:
        assert row["error"] is None
        expected = running.scores[row["model"]][int(Path(row["name"]).stem)]
        assert {name: row[name] for name in COLUMNS} == {name: expected[name] for name in COLUMNS}
    return {row["model"] for row in rows}


def test_scores_equal_those_of_the_command_and_a_bad_image_costs_its_own_row(running):
    response = running.post([*running.pictures, b"no image"])
    assert response.status_code == 200, response.text
    rows = response.json()["images"]
    assert [row["name"] for row in rows] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert check(running, rows[:-1]) == {f"models:/{NAME}/1"}
    assert rows[-1]["error"] == "not an image in a known format"
    assert rows[-1]["quality"] is None
    text = [base64.b64encode(data).decode() for data in running.pictures]
    again = requests.post(f"{running.url}/score", json={"images": text}, timeout=60).json()["images"]
    assert [row["quality"] for row in again] == [row["quality"] for row in rows[:-1]]


def scoring_processes() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "ServeReplica:grmp-iqa:scoring" in str(p.info["cmdline"])]


def test_no_request_is_lost_when_a_replica_dies_and_the_champion_changes(running):
    """Eight clients; the score of every answer is that of the version that it names."""
    answers: list[requests.Response] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            answers.append(running.post(running.pictures))

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    wait_for(lambda: len(answers) > 8)
    running.client.set_registered_model_alias(NAME, "champion", "2")
    victim = scoring_processes()[0]
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(lambda: answers[-1].ok and {row["model"] for row in answers[-1].json()["images"]} == {f"models:/{NAME}/2"})
    stop.set()
    for thread in clients:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    versions = [check(running, answer.json()["images"]) for answer in answers]
    assert set.union(*versions) == set(running.scores)
    assert requests.get(f"{running.url}/model", timeout=60).json()["model"] == f"models:/{NAME}/2"


def test_a_version_that_cannot_be_loaded_does_not_take_over(running, tmp_path):
    (tmp_path / "artifacts" / "bundle").mkdir(parents=True)
    (tmp_path / "artifacts" / "bundle" / "bundle.json").write_text('{"backbone": {"checkpoint": null}}')
    version = running.client.create_model_version(NAME, str(tmp_path)).version
    running.client.set_registered_model_alias(NAME, "champion", version)
    time.sleep(1.2)  # two looks at the alias
    rows = running.post(running.pictures).json()["images"]
    assert check(running, rows) == {f"models:/{NAME}/2"}
    running.client.set_registered_model_alias(NAME, "champion", "2")


def test_a_second_server_on_the_cluster_is_refused(running):
    with pytest.raises(InputError, match="Serve runs on this cluster already"), serving(Config()):
        pass


def test_prometheus_finds_the_counters(running):
    [node] = [node for node in ray.nodes() if node["Alive"]]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

    def has_all() -> bool:
        text = requests.get(address, timeout=10).text
        counted = re.findall(r"^ray_grmp_images_scored_total\{.*model=\"(.*?)\".*\} (\d+)", text, re.MULTILINE)
        return {name for name, _ in counted} >= set(running.scores) and "ray_grmp_request_seconds_bucket" in text

    wait_for(has_all)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
