"""Nodes of a Ray cluster as processes of this machine.

Each node is a `ray start --block` with ports, a temporary folder and a token of its own, so clusters live side by side
and a plain `ray.init()` elsewhere on the machine finds none of them. A test can kill one as a power cut would.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil
import requests

from cluster.processes import Node, end, free_ports, kill, last_line, wait_until, with_descendants
from grmp_core.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_TIMEOUT_S = 180
FOREIGN = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_TMPDIR", "RAY_JOB_CONFIG_JSON_ENV_VAR")
"""Variables that would tie a node to another cluster or token."""


class ClusterError(RuntimeError):
    """A node that does not start, or one that should be there and is not. One line, like InputError."""


@dataclass(frozen=True)
class State:
    """State of a cluster, kept in its folder for `status` and `stop` in other processes."""

    address: str
    dashboard_url: str
    temporary: str
    cpus_per_node: int
    object_store_mb: int
    nodes: tuple[Node, ...] = field(default=())

    @classmethod
    def read(cls, path: Path) -> State:
        content = json.loads(path.read_text())
        return cls(**{**content, "nodes": tuple(Node(**node) for node in content["nodes"])})

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2))
        partial.replace(path)


class LocalCluster:
    """A head (node 0) and worker nodes on this machine.

    Args:
        nodes: all of them, the head among them.
        cpus_per_node: CPUs a node offers to Ray, whatever the machine has.
        folder: for the token, the logs and the state; null: a temporary one that `stop` removes.
        object_store_mb: shared memory of a node.
    """

    def __init__(
        self, nodes: int = 2, cpus_per_node: int = 1, folder: str | Path | None = None, object_store_mb: int = 200
    ) -> None:
        if nodes < 1 or cpus_per_node < 0 or object_store_mb < 80:
            raise InputError("nodes must be 1 or more, cpus 0 or more, object store MB 80 or more")
        self._temporary_folder = folder is None
        self.folder = Path(folder or tempfile.mkdtemp(prefix="grmp-cluster-")).absolute()
        self._num_nodes = nodes
        self._cpus_per_node = cpus_per_node
        self._object_store_mb = object_store_mb
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def state(self) -> State:
        """Raises InputError where no cluster was started."""
        try:
            return State.read(self._state_file)
        except FileNotFoundError as error:
            raise InputError(
                f"no local cluster in {self.folder}; `python -m cluster.local_cluster start --dir {self.folder}`"
            ) from error

    @property
    def address(self) -> str:
        """For `ray.init(address=…)` on this machine."""
        return self.state.address

    @property
    def dashboard_url(self) -> str:
        """For `ray job submit --address …`."""
        return self.state.dashboard_url

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a client of this cluster."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard_url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
        }

    def start(self) -> None:
        """Start all nodes; returns when Ray counts them all as alive. What was started is ended if one does not."""
        self._refuse_second_start()
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self._start_nodes()
            on_failure.pop_all()

    def add_node(self) -> int:
        """Start one more worker node; -> its index."""
        return self._launch_all([self._worker_role()])[0]

    def kill_node(self, index: int) -> None:
        """SIGKILL to every process of a node at once, as when its machine loses power.

        Ray notices by itself some seconds later.
        """
        process = self._node(index).process()
        if process is None:
            raise ClusterError(f"node {index} is not running; `status` shows the nodes that are")
        kill(with_descendants(process))

    def stop(self) -> None:
        """End the recorded processes and remove the temporary files. Does nothing where nothing was started."""
        if self._state_file.exists():
            state = self.state
            running = [process for node in reversed(state.nodes) if (process := node.process())]
            end(running)
            shutil.rmtree(state.temporary, ignore_errors=True)
            self._state_file.unlink()
            self.token_file.unlink(missing_ok=True)
        for child in self._children:
            child.wait()
        self._children.clear()
        if self._temporary_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def alive_in_ray(self) -> set[str]:
        """Ids of the nodes that Ray counts as alive; empty while the head does not answer."""
        headers = {"Authorization": f"Bearer {self.token_file.read_text()}"}
        try:
            answer = requests.get(f"{self.dashboard_url}/api/v0/nodes", headers=headers, timeout=10)
            answer.raise_for_status()
            nodes = answer.json()["data"]["result"]["result"]
        except (requests.RequestException, KeyError, TypeError):
            return set()
        return {node["node_id"] for node in nodes if node["state"] == "ALIVE"}

    @property
    def _state_file(self) -> Path:
        return self.folder / "cluster.json"

    def _node(self, index: int) -> Node:
        for node in self.state.nodes:
            if node.index == index:
                return node
        raise InputError(f"there is no node {index}; `status` shows the nodes")

    def _refuse_second_start(self) -> None:
        if self._state_file.exists() and any(node.process() for node in self.state.nodes):
            raise InputError(
                f"a local cluster already runs in {self.folder}; stop it with "
                f"`python -m cluster.local_cluster stop --dir {self.folder}`, or give another --dir"
            )

    def _start_nodes(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_token()
        gcs_port, dashboard_port, client_port = free_ports(3, HOST)
        State(
            address=f"{HOST}:{gcs_port}",
            dashboard_url=f"http://{HOST}:{dashboard_port}",
            temporary=tempfile.mkdtemp(prefix="grmp-ray-"),  # short: paths of sockets end at 107 characters
            cpus_per_node=self._cpus_per_node,
            object_store_mb=self._object_store_mb,
        ).write(self._state_file)
        ports = [f"--port={gcs_port}", f"--dashboard-port={dashboard_port}", f"--ray-client-server-port={client_port}"]
        self._launch_all([["--head", *ports]])
        self._launch_all([self._worker_role()] * (self._num_nodes - 1))

    def _write_token(self) -> None:
        self.token_file.unlink(missing_ok=True)
        handle = os.open(self.token_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(handle, "w") as file:
            file.write(secrets.token_hex(32))

    def _worker_role(self) -> list[str]:
        return [f"--address={self.address}"]

    def _launch_all(self, roles: list[list[str]]) -> list[int]:
        """Start a node a role; returns their indices when Ray counts all of them as alive."""
        before = self.alive_in_ray()
        started = [self._launch(role) for role in roles]

        def ready() -> bool:
            for index in started:
                if self._node(index).process() is None:
                    raise ClusterError(f"node {index} ended while starting: {last_line(self._log(index))}")
            return len(self.alive_in_ray() - before) >= len(roles)

        if not wait_until(ready, START_TIMEOUT_S):
            raise ClusterError(
                f"nodes {started} did not join within {START_TIMEOUT_S} s; see node-*.log in {self.folder}"
            )
        return started

    def _launch(self, role: list[str]) -> int:
        """Start one node's process and record it; -> its index."""
        state = self.state
        index = len(state.nodes)
        arguments = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *role),
            *(f"--node-ip-address={HOST}", f"--temp-dir={state.temporary}/{index}"),
            *(f"--num-cpus={state.cpus_per_node}", "--num-gpus=0"),
            f"--object-store-memory={state.object_store_mb * 2**20}",
            *("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"),  # 0: any free one
        ]
        with open(self._log(index), "wb") as log:
            child = subprocess.Popen(
                arguments,
                env=self._node_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the caller, who stops the nodes in order
            )
        self._children.append(child)
        node = Node(index, child.pid, psutil.Process(child.pid).create_time())
        replace(state, nodes=(*state.nodes, node)).write(self._state_file)
        return index

    def _node_environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        return {
            **kept,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(START_TIMEOUT_S),  # Ray's own 60 s pass on a busy machine
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }

    def _log(self, index: int) -> Path:
        return self.folder / f"node-{index}.log"
