"""`grmp doctor` checks the cluster and the configuration before a long run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.checkup.cluster_checkup import Checkup
    from pipelines.configuration.schema import Config


def run(config: Config) -> Checkup:
    from pipelines.checkup.cluster_checkup import check_cluster  # `--help` does without it

    return check_cluster(config)


if __name__ == "__main__":
    module_main("doctor")
