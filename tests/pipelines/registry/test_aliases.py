"""Champion, challenger, and the way back."""

from __future__ import annotations

import dataclasses

import pytest
from mlflow import MlflowClient

from grmp_core.errors import InputError
from pipelines import cli, register
from pipelines.configuration.loading import load_config
from pipelines.configuration.models import RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.registry import aliases
from pipelines.registry.registration import _judge, register_model


@pytest.fixture
def model(mlflow_store, request):
    """Name of a model with three versions, and a client."""
    client = MlflowClient(mlflow_store.uri, mlflow_store.uri)
    name = request.node.name[:60]
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, mlflow_store.output)
    return name, client


def state(name: str, client: MlflowClient) -> dict[str, int]:
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def test_the_champion_of_before_comes_back_and_is_not_pushed_out_again(model, mlflow_store):
    name, client = model
    aliases.promote(client, name, 1)
    aliases.challenge(client, name, 2)
    assert state(name, client) == {"champion": 1, "challenger": 2}
    aliases.promote(client, name, 2)
    aliases.promote(client, name, 2)  # the same bundle registered again
    assert state(name, client) == {"champion": 2}
    config = Config(output=mlflow_store.output, tracking=TrackingConfig(uri=mlflow_store.uri))
    config = dataclasses.replace(config, register=RegisterConfig(name=name, rollback=True))
    done = register_model(config)
    assert (done.version, done.reason) == (1, "rolled back from version 2")
    assert done.as_text() == f"models:/{name}/1 @champion: rolled back from version 2"
    assert state(name, client) == {"champion": 1}
    promoted, reason = _judge(config, client, None, 2)
    assert not promoted
    assert "version 2 was rolled back" in reason
    with pytest.raises(InputError, match=r"version 1 of model .* is its first champion"):
        register_model(config)
    aliases.promote(client, name, 3)
    client.delete_model_version(name, "1")
    with pytest.raises(InputError, match=r"version 1 of model .*, the champion before, was deleted"):
        register_model(config)


def test_there_has_to_be_a_champion(model):
    name, client = model
    with pytest.raises(InputError, match="has no champion to roll back"):
        aliases.roll_back(client, name, "here")
    with pytest.raises(InputError, match="MLflow at here has no model 'nobody'"):
        aliases.roll_back(client, "nobody", "here")


def test_the_command_has_the_switch():
    options = cli.parser_of("register").parse_args(["--rollback"])
    assert load_config(None, (), register.overrides(options)).register.rollback
    assert register.overrides(cli.parser_of("register").parse_args([])) == {}
