"""Deployment files, against the schemas of what reads them, and against each other."""

from __future__ import annotations

import copy
import gzip
import importlib
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from pipelines.cli import COMMANDS
from pipelines.configuration.loading import load_config
from pipelines.serving.application import Arguments

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ("aws.yaml", "gcp.yaml")
KINDS = {"raycluster.yaml": "rayclusters", "rayjob.yaml": "rayjobs", "rayservice.yaml": "rayservices"}
ITS_OWN = {"/etc/grmp-serve"}
"""Folders that only the scoring server mounts."""


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text())


def cluster_spec(name: str) -> dict[str, Any]:
    spec = read(f"kuberay/{name}")["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def constrained(package: str) -> str:
    pin = re.search(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pin, f"constraints.txt has no {package}"
    return pin[1]


@pytest.fixture(scope="module")
def schemas() -> Path:
    """The CustomResourceDefinitions of KubeRay; tests that want them skip where they are absent."""
    folder = Path(os.environ.get("GRMP_SHARED_SCHEMAS", ROOT / ".." / "shared" / "schemas"))
    if not folder.is_dir():
        pytest.skip(f"no schemas at {folder}; set GRMP_SHARED_SCHEMAS")
    return folder.resolve()


def kuberay_schema(folder: Path, kind: str) -> dict[str, Any]:
    files = list(folder.glob(f"kuberay-*.ray.io_{kind}.yaml.gz"))
    if kind == "rayservices" and not files:  # its cluster has the schema of a RayCluster's, the rest is checked below
        return schema_of_service(kuberay_schema(folder, "rayclusters"))
    (file,) = files
    definition = yaml.load(gzip.decompress(file.read_bytes()), yaml.CSafeLoader)  # a safe one, in C
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    return strict(version["schema"]["openAPIV3Schema"])


def schema_of_service(cluster: dict[str, Any]) -> dict[str, Any]:
    """A RayService that has but a cluster and a Serve configuration."""
    properties = {"rayClusterConfig": cluster["properties"]["spec"], "serveConfigV2": {"type": "string"}}
    spec = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**cluster, "properties": {**cluster["properties"], "kind": {"const": "RayService"}, "spec": spec}}


def strict(schema: Any) -> Any:
    """The schema with unknown fields refused: Kubernetes drops them without a word, so a typo would do nothing."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: strict(value) for key, value in schema.items()}
    if isinstance(inner.get("properties"), dict) and inner.get("type") == "object":
        inner["properties"].setdefault("kind", {})
        if inner["properties"].keys() != {"kind"} and "x-kubernetes-preserve-unknown-fields" not in inner:
            inner.setdefault("additionalProperties", False)
    return inner


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_kuberay_accepts_the_manifest_and_not_one_with_a_typo(name, kind, schemas):
    schema = kuberay_schema(schemas, kind)
    schema["properties"]["metadata"] = {"type": "object"}
    manifest = read(f"kuberay/{name}")
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(manifest)] == []
    for break_it in (misspell_limits, forget_the_group_name, count_in_words):
        broken = copy.deepcopy(manifest)
        spec = broken["spec"]
        break_it((spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec)["workerGroupSpecs"][0])
        assert list(validator.iter_errors(broken)), f"{break_it.__name__} went through"


def misspell_limits(group: dict[str, Any]) -> None:
    resources = group["template"]["spec"]["containers"][0]["resources"]
    resources["limit"] = resources.pop("limits")


def forget_the_group_name(group: dict[str, Any]) -> None:
    del group["groupName"]


def count_in_words(group: dict[str, Any]) -> None:
    group["maxReplicas"] = "eight"


@pytest.mark.parametrize("name", KINDS)
def test_the_ray_version_is_the_tested_one(name):
    assert cluster_spec(name)["rayVersion"] == constrained("ray")


@pytest.mark.parametrize("name", KINDS)
def test_every_group_has_limits_storage_mlflow_and_no_privileges(name):
    spec = cluster_spec(name)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert "MLFLOW_TRACKING_URI" in {variable["name"] for variable in container["env"]}
        assert {"/runs", "/etc/grmp"} == {mount["mountPath"] for mount in container["volumeMounts"]} - ITS_OWN
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("name", KINDS)
def test_the_token_secret_is_the_clusters_and_no_group_has_its_own(name):
    """The operator sets mode and token on every container of a cluster with authOptions."""
    spec = cluster_spec(name)
    assert spec["authOptions"] == {"mode": "token", "secretName": "grmp-ray-token"}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert not [variable for variable in container["env"] if variable["name"].startswith("RAY_AUTH")]


@pytest.mark.parametrize("name", KINDS)
def test_gpu_and_cpu_workers_scale_between_limits(name):
    spec = cluster_spec(name)
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert spec["enableInTreeAutoscaling"] is True
    assert groups.keys() == {"gpu", "cpu"}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    limits = {key: group["template"]["spec"]["containers"][0]["resources"]["limits"] for key, group in groups.items()}
    assert limits["gpu"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in limits["cpu"]


def test_the_job_has_the_standing_clusters_nodes_and_its_storage():
    assert cluster_spec("rayjob.yaml") == cluster_spec("raycluster.yaml")
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in cluster_spec("rayjob.yaml")["headGroupSpec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {read("kuberay/storage.yaml")["metadata"]["name"]}


def test_the_service_has_the_standing_clusters_nodes_and_its_own_port_and_token():
    service, standing = cluster_spec("rayservice.yaml"), cluster_spec("raycluster.yaml")
    head = service["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["ports"].remove({"name": "serve", "containerPort": 8000})
    for group in (service["headGroupSpec"], *service["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        secret = {"name": "serve-token", "secret": {"secretName": "grmp-serve-token"}}
        pod["volumes"] = [volume for volume in pod["volumes"] if volume != secret]
        mounts = pod["containers"][0]["volumeMounts"]
        token = {"name": "serve-token", "mountPath": "/etc/grmp-serve", "readOnly": True}
        pod["containers"][0]["volumeMounts"] = [mount for mount in mounts if mount != token]
    assert service == standing


def test_serve_takes_the_services_configuration_and_the_program_its_settings():
    served = ServeDeploySchema.model_validate(yaml.safe_load(read("kuberay/rayservice.yaml")["spec"]["serveConfigV2"]))
    assert (served.http_options.host, served.http_options.port) == ("0.0.0.0", 8000)  # noqa: S104
    (application,) = served.applications
    module, _, builder = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), builder))
    arguments = Arguments.model_validate(application.args)
    config = load_config(str(ROOT / "ray_config.yaml"), arguments.set)
    assert arguments.config == "/etc/grmp/ray_config.yaml"
    assert config.output.startswith("/runs/")
    assert "serve.token_file=/etc/grmp-serve/token" in arguments.set
    assert served.http_options.request_timeout_s > config.serve.timeout_s


def test_the_job_ends_its_cluster_and_tries_again():
    spec = read("kuberay/rayjob.yaml")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] >= 1
    assert spec["activeDeadlineSeconds"] > 0


@pytest.mark.parametrize("name", ["kuberay/rayjob.yaml", *LAUNCHERS])
def test_the_workload_it_runs_takes_the_settings(name):
    text = (CLUSTER / name).read_text() if name in LAUNCHERS else read(name)["spec"]["entrypoint"]
    (workload, arguments), *_ = re.findall(r"python -m pipelines\.(\w+)((?: --\w+ \S+)+)", text)
    assert workload in COMMANDS
    overrides = re.findall(r"--set (\S+)", arguments)
    config = load_config(str(ROOT / "ray_config.yaml"), overrides)
    assert config.output.startswith(("/runs/", "s3://", "gs://")), "a place that all nodes reach"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_cluster_launcher_accepts_the_file(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read(name)))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**read(name), "max_worker": 3}))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launched_nodes_have_limits_the_token_and_mlflow(name):
    config = read(name)
    types = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    assert sum(types[kind]["max_workers"] for kind in ("gpu", "cpu")) <= config["max_workers"]
    assert config["file_mounts"] == {"/home/grmp/.ray/auth_token": "~/.ray/auth_token"}
    options = " ".join(config["docker"]["run_options"])
    assert "--env=RAY_AUTH_MODE=token" in options
    assert "--env=MLFLOW_TRACKING_URI=http" in options
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token ray start" in config[commands][-1]


def test_workers_are_spot_machines_and_the_head_is_none():
    aws, gcp = (
        {key: value["node_config"] for key, value in read(n)["available_node_types"].items()} for n in LAUNCHERS
    )
    for kind in ("gpu", "cpu"):
        assert aws[kind]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert {"preemptible": True} in gcp[kind]["scheduling"]
    assert "InstanceMarketOptions" not in aws["head"]
    assert "scheduling" not in gcp["head"]


def test_the_image_is_built_from_the_constraints_and_runs_as_nobody_special():
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    text = "\n".join(lines)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["grmp"]
    installs = [line for line in text.replace("\\\n", " ").splitlines() if "uv pip install" in line]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in line for line in installs)
    assert "uv venv --python 3.11" in text
    assert not re.search(r"\bray(\[.*\])?==|\btorch==", text), "constraints.txt alone holds versions"
    assert not re.search(r"(?i)secret|password|auth_token|access_key", text)
    uid = re.search(r"--uid (\d+)", text)
    assert uid
    pod = cluster_spec("raycluster.yaml")["headGroupSpec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(uid[1])


def test_the_image_gets_only_what_the_dockerfile_copies():
    copied = re.findall(r"^COPY --chown=grmp (.+) \S+$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert names == {line[1:] for line in ignore if line.startswith("!")}
    assert all((ROOT / name).exists() for name in names)
    assert ignore.index("*") < min(ignore.index(f"!{name}") for name in names)
