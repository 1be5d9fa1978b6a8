"""`grmp serve`: the scoring server of one command, from its start to Ctrl-C."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from types import FrameType
from typing import Any

from grmp_core.errors import InputError
from pipelines.configuration.schema import Config
from pipelines.configuration.serving import ServeConfig
from pipelines.runtime.capacity import require
from pipelines.runtime.cluster_address import cluster_address
from pipelines.runtime.console import one_line, say
from pipelines.runtime.ray_session import ray_session
from pipelines.runtime.web_access import in_address, is_loopback_address, names_of, token_of
from pipelines.scoring.model_lookup import open_model

APPLICATION = "grmp-iqa"


@dataclass(frozen=True)
class Served:
    """Result of `grmp serve`, once the server has ended."""

    address: str
    model: str
    """Version that it began with."""
    seconds: float

    def as_text(self) -> str:
        return f"served {self.model} at {self.address} for {self.seconds:.0f} s"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    address: str
    token: str | None


def serve_model(config: Config) -> Served:
    """Serve `score.model` until Ctrl-C or SIGTERM; then requests in work are answered first.

    Raises:
        InputError: the extra is not installed, there is no such model, the address is taken, the cluster has no room,
            or Serve runs on it already.
    """
    _require_extra()
    started = time.time()
    model, _ = open_model(config)
    stop = threading.Event()
    with ray_session(), serving(config) as server:
        say(f"serve: {model} at {server.address}/score, reference at {server.address}/docs (Ctrl-C ends it)")
        if server.token is not None and config.serve.token_file is None:
            say(f"serve: token {server.token}")
        with _signals(stop):
            stop.wait()
        say("serve: ending, when the requests in work are answered")
    return Served(server.address, model, time.time() - started)


@contextmanager
def serving(config: Config) -> Iterator[Server]:
    """The application in the Ray session at hand, for the time of the block. InputError as `serve_model`."""
    from ray import serve  # an extra
    from ray.serve.config import HTTPOptions, ProxyLocation

    from pipelines.serving.application import QUIET, application, share_of

    settings = config.serve
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().proxies:
        raise InputError(
            "Serve runs on this cluster already, with addresses of its own: deploy to it with a Serve configuration "
            "(docs/serving.md), or end it with `serve shutdown`"
        )
    _check_room(settings, share_of(settings), config.wait_for_nodes_s)
    is_loopback = is_loopback_address(settings.host)
    wants_token = not is_loopback or settings.token_file is not None
    token = token_of(settings.token_file, "serve.token_file") if wants_token else None
    hosts = names_of(settings.host) if is_loopback else frozenset[str]()
    options = HTTPOptions(host=settings.host, port=settings.port, request_timeout_s=settings.timeout_s + 5)
    try:
        serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options, logging_config=QUIET)
        _run(application(config, token, hosts))
        yield Server(f"http://{in_address(settings.host)}:{settings.port}", token)
        serve.delete(APPLICATION)  # the requests in work are answered
    finally:
        serve.shutdown()


def _run(application: Any) -> None:
    from ray import serve

    from pipelines.serving.application import QUIET

    try:
        serve.run(application, name=APPLICATION, route_prefix="/", logging_config=QUIET)
    except RuntimeError as error:
        deployments = serve.status().applications[APPLICATION].deployments.values()
        reasons = [message.strip().splitlines()[-1] for d in deployments if (message := d.message)] or [one_line(error)]
        raise InputError(f"the server did not start: {'; '.join(reasons)}") from error


def _require_extra() -> None:
    missing = [module for module in ("grpc_reflection", "python_multipart") if find_spec(module) is None]
    if missing:
        raise InputError(f"grmp serve needs the extra serve ({', '.join(missing)}): pip install 'grmp-iqa[serve]'")


def _check_room(settings: ServeConfig, share: dict[str, float], wait_s: float) -> None:
    if cluster_address() is None:
        _check_address(settings.host, settings.port)
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    piece = {names[name]: amount for name, amount in share.items() if amount}
    require(piece, settings.replicas, wait_s, "serving wants", "lower serve.replicas or serve.gpus_per_replica")


def _check_address(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        fix = "use another serve.port" if error.errno == errno.EADDRINUSE else "correct serve.host"
        raise InputError(f"cannot listen on {host} port {port}: {error.strerror}; {fix}") from error


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
