"""Where the files of a rated folder are: votes, features, and the list of what to rate next."""

from __future__ import annotations

import os

from grmp_core.errors import InputError
from grmp_core.ratings.vote_log import LOG_NAME
from pipelines.configuration.labels import RateConfig
from pipelines.configuration.schema import Config

LIST_NAME = "next.txt"
FEATURES_NAME = ".grmp-features"
"""Begins with a dot, so that it is no part of the folder's images."""


def log_path(config: RateConfig) -> str:
    """Where the votes of a folder are. InputError without a folder."""
    if not config.folder:
        raise InputError("rate.folder is not set: give the folder of the images, as in grmp rate photos/")
    return config.votes or os.path.join(config.folder, LOG_NAME)


def list_path(config: Config) -> str:
    """Where `grmp next` writes its list."""
    return config.next.list_file or os.path.join(os.path.dirname(log_path(config.rate)), LIST_NAME)


def features_path(config: Config) -> str:
    """Folder that keeps what the backbone makes of the images."""
    return config.next.features or os.path.join(os.path.dirname(log_path(config.rate)), FEATURES_NAME)
