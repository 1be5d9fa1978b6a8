"""`grmp serve` against a bare loop of decoding and forward passes, under load, under attack, and while parts of it die.

    python -m tests.benchmarks.serving [--seconds 20] [--clients 1 8 32] [--requests 2000] [--hostile 500] [--mlflow]
        [--replicas 8 --gpus-per-replica 0.12 --ingresses 4]

The embedded backbone, photos of 512 x 384 as JPEG, nine views each, as many replicas and loops as CPUs unless said
otherwise; with a share of a GPU, replicas and loops both compute there. The bare loop runs before and after the server
in the same call. Beside images per second it tells the CPU time of an image, which other work on the machine disturbs
less: in the loops, and in each part of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import dataclasses
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import psutil
import requests
import torch
from mlflow import MlflowClient

from cluster.processes import wait_until
from grmp_core.model.bundle import write_bundle
from grmp_core.model.scorer import Scorer
from grmp_core.procedural import scenes
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.loading import load_config
from pipelines.configuration.models import RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.configuration.serving import ServeConfig
from pipelines.registry.registration import register_model
from pipelines.runtime.ray_session import ray_session
from pipelines.scoring.model_lookup import open_model
from pipelines.serving.server import serving
from tests.benchmarks.hostile_requests import hostile_requests
from tests.benchmarks.rows import Row

PICTURES, NAME = 16, "benchmark"
MLFLOW_START_S = 300
CORES = os.cpu_count() or 1
SERVE = ServeConfig(port=8765, replicas=CORES, follow_s=1, timeout_s=120)


def pictures() -> list[bytes]:
    return [cv2.imencode(".jpg", scenes.reference(seed, 384, 512))[1].tobytes() for seed in range(PICTURES)]


def scorer_of(config: Config, version: int) -> Scorer:
    score = ScoreConfig(model=f"models:/{NAME}/{version}")
    name, bundle = open_model(dataclasses.replace(config, score=score))
    return Scorer(bundle, name, limits=config.images, device="cuda" if config.serve.gpus_per_replica else "cpu")


# --- the bare loop -------------------------------------------------------------------------------------------------


def _loop(config: Config, seconds: float, ready: Any, results: Any) -> None:
    torch.set_num_threads(1)
    scorer, photos = scorer_of(config, 1), pictures()
    scorer.score(photos[:2])
    ready.wait()
    began, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        scorer.score([photos[done % PICTURES]])
        done += 1
    results.put((done / (time.perf_counter() - began), (time.process_time() - cpu) / done))


def bare_loop(config: Config, seconds: float) -> tuple[float, float]:
    """Images per second of as many loops as replicas together, and CPU seconds of an image."""
    spawn, count = multiprocessing.get_context("spawn"), config.serve.replicas
    ready, results = spawn.Barrier(count), spawn.Queue()
    loops = [spawn.Process(target=_loop, args=(config, seconds, ready, results)) for _ in range(count)]
    for loop in loops:
        loop.start()
    rates = [results.get() for _ in loops]
    for loop in loops:
        loop.join()
    return sum(rate for rate, _ in rates), float(np.mean([cpu for _, cpu in rates]))


def print_bare(config: Config, seconds: float) -> None:
    rate, cpu = bare_loop(config, seconds)
    print(f"bare loop    {rate:6.2f} images/s, {cpu:.3f} CPU s an image", flush=True)


# --- clients -------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Times, statuses and rows that the clients of a run got."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Number of the picture, and its row."""
    wall_s: float = 0.0

    def __str__(self) -> str:
        p50, p99 = np.percentile(self.seconds, [50, 99]) if self.seconds else (np.nan, np.nan)
        other = {status: count for status, count in self.statuses.items() if status != 200}
        rate = self.statuses[200] / self.wall_s
        return f"{rate:6.2f} images/s, p50 {p50:.3f} s, p99 {p99:.3f} s, {sum(self.statuses.values())} requests" + (
            f", other answers {other}" if other else ""
        )


async def _clients(url: str, photos: list[bytes], count: int, until: Callable[[Load], bool], as_json: bool) -> Load:
    load, began = Load(), time.perf_counter()

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        turn = number
        while not until(load):
            picture, turn = turn % PICTURES, turn + 1
            started = time.perf_counter()
            if as_json:
                body = {
                    "dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(photos[picture]).decode()]]}
                }
                call = session.post(url, json=body)
            else:
                form = aiohttp.FormData()
                form.add_field("images", photos[picture], filename=f"{picture}.jpg")
                call = session.post(url, data=form)
            async with call as answer:
                content = await answer.json(content_type=None)
            load.seconds.append(time.perf_counter() - started)
            load.statuses[answer.status] += 1
            if answer.status == 200 and not as_json:
                load.rows.append((picture, content["images"][0]))

    timeout, connector = aiohttp.ClientTimeout(total=300), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        await asyncio.gather(*(client(session, number) for number in range(count)))
    load.wall_s = time.perf_counter() - began
    return load


def clients(url: str, photos: list[bytes], count: int, until: Callable[[Load], bool], as_json: bool = False) -> Load:
    return asyncio.run(_clients(url, photos, count, until, as_json))


def for_seconds(seconds: float) -> Callable[[Load], bool]:
    end = time.perf_counter() + seconds
    return lambda load: time.perf_counter() > end


def check(load: Load, expected: dict[str, list[float]]) -> str:
    """Every score against that of `grmp score` by the version that it names."""
    wrong = sum(row["quality"] != expected[row["model"]][picture] for picture, row in load.rows)
    versions = Counter(row["model"].rpartition("/")[2] for _, row in load.rows)
    failed = sum(count for status, count in load.statuses.items() if status != 200)
    return f"{failed} failed, {wrong} other than grmp score, rows by version {dict(versions)}"


# --- the server's processes ----------------------------------------------------------------------------------------


def processes(word: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if word in str((p.info["cmdline"] or [])[:1])]


PARTS = {
    "scoring": "ServeReplica:grmp-iqa:scoring",
    "ingress": "ServeReplica:grmp-iqa:ingress",
    "proxy": "ProxyActor",
    "HAProxy": "bin/haproxy",
    "HAProxy's manager": "HAProxyManager",
    "controller": "ServeController",
}


def cpu_seconds() -> dict[str, float]:
    """Of the server's parts, and of the clients, which are this process."""
    parts = {name: sum(sum(p.cpu_times()[:2]) for p in processes(word)) for name, word in PARTS.items()}
    return {**parts, "clients": time.process_time()}


def megabytes() -> dict[str, int]:
    return {name: sum(p.memory_info().rss for p in processes(word)) >> 20 for name, word in PARTS.items()}


# --- what is measured ----------------------------------------------------------------------------------------------


def registered(output: Path, config: Config, serve: ServeConfig, packaged: bool) -> Config:
    """A registry with two versions, of which the first is champion; `packaged`: as MLflow itself can serve it."""
    config = dataclasses.replace(
        config,
        output=str(output),
        tracking=TrackingConfig(uri=f"sqlite:///{output}/mlflow.db"),
        score=ScoreConfig(model=f"models:/{NAME}@champion"),
        serve=serve,
    )
    first = dataclasses.replace(
        arms.random_prompts(config), kind="model", score_range=ScoreRange(mos_min=0, mos_max=100), metrics={}
    )
    shifted = {name: 20 * tensor if "context" in name else tensor for name, tensor in first.parameters.items()}
    client = MlflowClient(config.tracking.uri, config.tracking.uri)
    client.search_experiments(max_results=1)
    for number, bundle in enumerate((first, dataclasses.replace(first, parameters=shifted)), start=1):
        source = output / f"version{number}"
        write_bundle(locate(source / "artifacts" / "bundle"), bundle)
        if packaged and number == 1:
            section = RegisterConfig(name=NAME, bundle=str(source / "artifacts" / "bundle"))
            register_model(dataclasses.replace(config, register=section))
            continue
        if number == 1:
            client.create_registered_model(NAME)
        client.create_model_version(NAME, str(source))
    alias_to(config, 1)
    return config


def alias_to(config: Config, version: int) -> None:
    MlflowClient(config.tracking.uri, config.tracking.uri).set_registered_model_alias(NAME, "champion", str(version))


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/ping", timeout=2).ok
    except requests.RequestException:
        return False


@contextmanager
def mlflow_server(config: Config, port: int) -> Iterator[str]:
    """`mlflow models serve` of version 1; -> the address of its answers. RuntimeError with its log where it ends, or
    does not answer within `MLFLOW_START_S`."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{NAME}/1", "--env-manager", "local"]
    command += ["-p", str(port), "--workers", str(CORES)]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": str(config.tracking.uri),
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),  # of uvicorn
        "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": str(MLFLOW_START_S),  # 5 s kill a worker that still imports torch
    }
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            if not wait_until(lambda: server.poll() is not None or answers(port), MLFLOW_START_S) or server.poll():
                log.seek(0)
                raise RuntimeError(f"`mlflow models serve` does not answer: {log.read()[-2000:].decode()}")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def throughput(url: str, photos: list[bytes], options: argparse.Namespace, expected: dict[str, list[float]]) -> None:
    for count in options.clients:
        before = cpu_seconds()
        load = clients(f"{url}/score", photos, count, for_seconds(options.seconds))
        each = {name: 1000 * (cpu - before[name]) / max(1, load.statuses[200]) for name, cpu in cpu_seconds().items()}
        print(f"{count:3} clients  {load}; {check(load, expected)}")
        print("  CPU ms an image: " + ", ".join(f"{name} {ms:.1f}" for name, ms in each.items()), flush=True)


def attack(url: str, photos: list[bytes], count: int, expected: dict[str, list[float]]) -> None:
    before = {p.pid for p in processes("ServeReplica")}
    statuses = Counter(send(url) for send in hostile_requests(count, random.Random(0)))  # noqa: S311
    same = {p.pid for p in processes("ServeReplica")} == before
    load = clients(f"{url}/score", photos, 4, lambda load: sum(load.statuses.values()) >= PICTURES)
    print(f"{count} hostile requests: answers {dict(statuses)}; replicas {'as before' if same else 'CHANGED'}")
    print(f"  afterwards: {check(load, expected)}; RSS {megabytes()} MB", flush=True)


def death(url: str, photos: list[bytes], config: Config, seconds: float, expected: dict[str, list[float]]) -> None:
    """32 clients; after a third of the time a scoring replica is killed, after two thirds the champion changes."""
    end, events = for_seconds(seconds), [for_seconds(seconds / 3), for_seconds(2 * seconds / 3)]
    seen: list[str] = []

    def until(load: Load) -> bool:
        if len(seen) == 0 and events[0](load):
            victim = processes("ServeReplica:grmp-iqa:scoring")[0]
            os.kill(victim.pid, signal.SIGKILL)
            seen.append("killed")
        if len(seen) == 1 and events[1](load):
            alias_to(config, 2)
            seen.append("changed")
        return end(load)

    load = clients(f"{url}/score", photos, 32, until)
    print(f"a replica killed, the champion changed, 32 clients: {load}; {check(load, expected)}", flush=True)


def memory(url: str, photos: list[bytes], count: int) -> None:
    """RSS over many requests, most of which are refused images, which take all of the way but the forward pass."""
    mixed = [*photos[:1], *(photo[: len(photo) // 2] for photo in photos[1:])]
    for part in range(5):
        if part:
            clients(f"{url}/score", mixed, 8, lambda load: sum(load.statuses.values()) >= count // 4)
        print(f"after {part * count // 4:6} requests: RSS {megabytes()} MB", flush=True)


def rows(quick: bool = False) -> list[Row]:
    seconds, count, photos = (2, 2, pictures()) if quick else (12, 8, pictures())
    with tempfile.TemporaryDirectory() as folder:
        config = registered(Path(folder), load_config(None), SERVE, packaged=not quick)
        bare = [bare_loop(config, seconds)[0]]
        with ray_session(), serving(config) as server:
            clients(f"{server.address}/score", photos, count, for_seconds(2))
            own = clients(f"{server.address}/score", photos, count, for_seconds(seconds))
        bare.append(bare_loop(config, seconds)[0])
        rates = {"a loop of decoding and scoring in each core": (float(np.mean(bare)), "own loop")}
        if not quick:
            with mlflow_server(config, 8766) as url:
                clients(url, photos, count, for_seconds(2), as_json=True)
                load = clients(url, photos, count, for_seconds(seconds), as_json=True)
            rates["`mlflow models serve` of the same model"] = (load.statuses[200] / load.wall_s, "MLflow's own server")
    rate = own.statuses[200] / own.wall_s
    what = f"`grmp serve`, {count} clients"
    return [
        Row(what=what, against=other, ratio=rate / theirs, whose=whose, seconds=1 / rate)
        for other, (theirs, whose) in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=2000, help="over which memory is watched")
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--mlflow", action="store_true", help="also `mlflow models serve`")
    parser.add_argument("--replicas", type=int, default=CORES)
    parser.add_argument("--gpus-per-replica", type=float, default=0)
    parser.add_argument("--ingresses", type=int, default=1)
    options = parser.parse_args()
    shape = {name: getattr(options, name) for name in ("replicas", "gpus_per_replica", "ingresses")}
    serve = dataclasses.replace(SERVE, **shape)
    torch.set_num_threads(1)  # as `grmp score` and the replicas: with more, kernels add up in another order
    photos = pictures()
    with tempfile.TemporaryDirectory() as folder:
        config = registered(Path(folder), load_config(None), serve, options.mlflow)
        expected = {
            f"models:/{NAME}/{version}": [score.quality for score in scorer_of(config, version).score(photos)]
            for version in (1, 2)
        }
        parts = f"{serve.replicas} replicas, {serve.ingresses} ingresses"
        print(f"{CORES} cores, {parts}, load {os.getloadavg()[0]:.1f}", flush=True)
        print_bare(config, options.seconds)
        with ray_session(), serving(config) as server:
            clients(f"{server.address}/score", photos, max(options.clients), for_seconds(2))  # first calls take longer
            throughput(server.address, photos, options, expected)
            attack(server.address, photos, options.hostile, expected)
            memory(server.address, photos, options.requests)
            death(server.address, photos, config, 3 * options.seconds, expected)
        print_bare(config, options.seconds)
        if options.mlflow:
            with mlflow_server(config, 8766) as url:
                for count in options.clients:
                    load = clients(url, photos, count, for_seconds(options.seconds), as_json=True)
                    print(f"mlflow models serve, {count:3} clients  {load}", flush=True)


if __name__ == "__main__":
    main()
