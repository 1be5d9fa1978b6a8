"""Aliases of a registered model: `champion` serves, `candidate` is the newest version, `challenger` the newest one that
was held against the champion and did not get its place."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from grmp_core.errors import InputError

CHAMPION, CANDIDATE, CHALLENGER = "champion", "candidate", "challenger"
DECISION = "grmp.decision"
_BEFORE, _ROLLED_BACK = "grmp.champion_before", "grmp.rolled_back"


def promote(client: MlflowClient, name: str, version: int) -> None:
    """Make a version champion, and note whose place it takes."""
    aliases = client.get_registered_model(name).aliases
    before = aliases.get(CHAMPION)
    if before is not None and int(before) != version:
        client.set_model_version_tag(name, str(version), _BEFORE, str(before))
    if CHALLENGER in aliases and int(aliases[CHALLENGER]) == version:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_registered_model_alias(name, CHAMPION, str(version))


def challenge(client: MlflowClient, name: str, version: int) -> None:
    """Make a version the challenger."""
    client.set_registered_model_alias(name, CHALLENGER, str(version))


def was_rolled_back(client: MlflowClient, name: str, version: int) -> bool:
    """Whether people took the champion's place from a version: then no measurement gives it back."""
    return _ROLLED_BACK in client.get_model_version(name, str(version)).tags


def roll_back(client: MlflowClient, name: str, where: str) -> tuple[int, str]:
    """Make the version before the champion champion again; -> that version, and the decision in words.

    InputError when there is no champion, or none before it that is still there.
    """
    try:
        champion = client.get_registered_model(name).aliases.get(CHAMPION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(f"MLflow at {where} has no model '{name}'; see register.name") from error
    if champion is None:
        raise InputError(f"model '{name}' in MLflow at {where} has no champion to roll back")
    before = client.get_model_version(name, str(champion)).tags.get(_BEFORE)
    if before is None:
        raise InputError(f"version {champion} of model '{name}' is its first champion: there is none to go back to")
    try:
        client.set_registered_model_alias(name, CHAMPION, before)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(f"version {before} of model '{name}', the champion before, was deleted") from error
    client.set_model_version_tag(name, str(champion), _ROLLED_BACK, "true")
    decision = f"rolled back from version {champion}"
    client.set_model_version_tag(name, before, DECISION, decision)
    return int(before), decision
