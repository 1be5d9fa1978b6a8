"""A Ray cluster of several nodes on this machine, for trying out what a real cluster does.

`python -m cluster.local_cluster start --nodes 2 --cpus 1` starts a head and one worker node. `stop` ends exactly the
processes that `start` made. In tests: `with LocalCluster(nodes=2) as cluster: …`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.local_nodes import ClusterError, LocalCluster
from grmp_core.errors import InputError

DEFAULT_FOLDER = "runs/local-cluster"


def main(arguments: Sequence[str] | None = None) -> int:
    """-> exit code: 0 done, 1 failure, 2 bad input."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.function(options))
    except InputError as error:
        print(f"local_cluster: {error}", file=sys.stderr)
        return 2
    except ClusterError as error:
        print(f"local_cluster: {error}", file=sys.stderr)
        return 1


def _start(options: argparse.Namespace) -> int:
    cluster = LocalCluster(options.nodes, options.cpus, options.dir, options.object_store_mb)
    cluster.start()
    _describe(cluster)
    return 0


def _status(options: argparse.Namespace) -> int:
    cluster = LocalCluster(folder=options.dir)
    for node in cluster.state.nodes:
        print(f"node {node.index}  process {node.pid}  {'running' if node.process() else 'ended'}")
    print(f"alive in Ray: {len(cluster.alive_in_ray())}")
    _describe(cluster)
    return 0


def _stop(options: argparse.Namespace) -> int:
    cluster = LocalCluster(folder=options.dir)
    num_nodes = len(cluster.state.nodes)
    cluster.stop()
    print(f"stopped {num_nodes} nodes")
    return 0


def _add(options: argparse.Namespace) -> int:
    print(f"node {LocalCluster(folder=options.dir).add_node()} joined")
    return 0


def _kill(options: argparse.Namespace) -> int:
    LocalCluster(folder=options.dir).kill_node(options.node)
    print(f"node {options.node} is dead")
    return 0


def _describe(cluster: LocalCluster) -> None:
    print(f"address    {cluster.address}\ndashboard  {cluster.dashboard_url}\n")
    for key, value in cluster.environment.items():
        print(f"export {key}={value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.local_cluster", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="start|status|add|kill|stop")
    start = commands.add_parser("start", help="start a head and worker nodes")
    start.add_argument("--nodes", type=int, default=2, help="all of them, the head among them (2)")
    start.add_argument("--cpus", type=int, default=1, help="CPUs a node offers to Ray (1)")
    start.add_argument("--object-store-mb", type=int, default=200, help="shared memory of a node (200)")
    status = commands.add_parser("status", help="show the nodes, and what to export")
    add = commands.add_parser("add", help="start one more worker node")
    kill_one = commands.add_parser("kill", help="end a node as a power cut would")
    kill_one.add_argument("node", type=int, help="its number in `status`")
    stop = commands.add_parser("stop", help="end the processes that start and add made")
    functions = {start: _start, status: _status, add: _add, kill_one: _kill, stop: _stop}
    for command, function in functions.items():
        command.set_defaults(function=function)
        command.add_argument("--dir", default=DEFAULT_FOLDER, help=f"token, logs and state ({DEFAULT_FOLDER})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
