"""`grmp serve` from its first line to its last, and what it refuses. Without Ray."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from grmp_core.errors import InputError
from pipelines import cli
from pipelines.configuration.schema import Config
from pipelines.configuration.serving import ServeConfig
from pipelines.serving import server
from pipelines.serving.application import Arguments, build, share_of


def test_the_command_serves_until_it_is_told_to_end(monkeypatch, capsys):
    seen: list[Config] = []

    @contextmanager
    def serving(config: Config) -> Iterator[server.Server]:
        seen.append(config)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        yield server.Server(f"http://{config.serve.host}:{config.serve.port}", "a-new-token")

    monkeypatch.setattr(server, "ray_session", nullcontext)
    monkeypatch.setattr(server, "open_model", lambda config: (config.score.model, None))
    monkeypatch.setattr(server, "serving", serving)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["serve", "--model", "models:/m@champion", "--port", "8123"]) == 0
    told = capsys.readouterr()
    assert "models:/m@champion at http://127.0.0.1:8123/score" in told.err
    assert "token a-new-token" in told.err
    assert told.out.startswith("served models:/m@champion at http://127.0.0.1:8123 for 0 s")
    assert signal.getsignal(signal.SIGTERM) == before
    assert (seen[0].serve.port, seen[0].score.model) == (8123, "models:/m@champion")


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'grmp-iqa\[serve\]'"):
        server.serve_model(Config())


def test_an_address_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: .*use another serve.port"):
            server._check_address("127.0.0.1", port)
    server._check_address("127.0.0.1", port)
    with pytest.raises(InputError, match=r"correct serve\.host"):
        server._check_address("192.0.2.1", port)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicas": 3, "max_replicas": 2}, "serve.max_replicas 2 is below serve.replicas"),
        ({"max_queue": 4}, "serve.max_queue 4 is below serve.max_images"),
        ({"max_queue_bytes": 1000}, "serve.max_queue_bytes 1000 is below serve.max_request_bytes"),
        ({"port": 0}, "ServeConfig.port"),
    ],
)
def test_settings_that_contradict_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ServeConfig(**settings)


def test_replicas_scaling_and_shares_come_from_the_configuration(tmp_path):
    (tmp_path / "token").write_text("x" * 20)
    settings = ("serve.replicas=2", "serve.max_replicas=5", "serve.gpus_per_replica=0.25", "serve.ingresses=3")
    app = build(Arguments(set=(*settings, f"serve.token_file={tmp_path / 'token'}")))
    ingress = app._bound_deployment
    scoring = ingress.init_args[0]._bound_deployment
    scaling = scoring._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 5, 3)
    assert scoring.ray_actor_options["num_gpus"] == 0.25
    assert scoring.max_ongoing_requests == 2 * 8 + 32
    assert ingress.num_replicas == 3
    assert ingress.init_args[2] == "x" * 20, "a deployed application always has a token"
    assert share_of(ServeConfig()) == {"num_cpus": 1}
