"""The worker that `grmp doctor` sends to every node. It imports little: on a busy node that takes most of its time."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import ray
import torch
from huggingface_hub import try_to_load_from_cache
from open_clip.pretrained import get_pretrained_cfg

from grmp_core.errors import InputError
from grmp_core.model.nano_trunk import SIZES
from grmp_core.model.settings import BackboneConfig
from grmp_core.storage import Location, locate
from pipelines.checkup.verdicts import Disk, NodeFacts, Weights
from pipelines.configuration.schema import Config
from pipelines.runtime.console import one_line
from pipelines.runtime.provenance import versions

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names under which open_clip looks for weights on the Hugging Face hub where a tag names none."""

SMI_SECONDS = 30.0
"""A driver that takes longer to tell its GPUs counts as hanging."""
T = TypeVar("T")


@dataclass(frozen=True)
class Errand:
    """The task of a worker on its node."""

    config: Config
    mark: str
    """File that the driver left in `output`; it holds its own name."""


def visit(errand: Errand) -> NodeFacts:
    """Runs on a node: look around."""
    config, output = errand.config, locate(errand.config.output)
    weights, weights_problem = _or_problem(lambda: weights_here(config.backbone))
    gpus, gpu_problem = _or_problem(gpu_bytes)
    return NodeFacts(
        versions=compared_versions(),
        storage_problem=storage_problem(output),
        sees_output=_reads(output / errand.mark) == errand.mark.encode(),
        absent_paths=tuple(path for path in _local_inputs(config) if not Path(path).expanduser().exists()),
        weights=weights,
        weights_problem=weights_problem,
        bf16_slowdown=bf16_slowdown() if config.precision == "bf16" else None,
        disks=tuple(_disks(output)),
        gpu_bytes=gpus,
        gpu_problem=gpu_problem,
    )


def compared_versions() -> dict[str, str]:
    """Versions that must be the same everywhere, of this package as a hash of its source files."""
    installed = versions()
    return {"grmp-iqa": _source_hash(), **{name: installed[name] for name in ("python", "torch", "ray")}}


def storage_problem(output: Location) -> str | None:
    """Write, read and delete a file in `output`; -> why that does not work, or None."""
    content = secrets.token_hex(8).encode()
    file = output / f".doctor-{content.decode()}"
    try:
        file.write_bytes(content)
        if file.read_bytes() != content:
            return f"{file.uri} was read with another content than was written"
        file.delete()
    except (InputError, OSError) as error:
        return one_line(error)
    return None


def weights_here(backbone: BackboneConfig) -> Weights:
    """Whether this machine can load the backbone without a download. InputError for one that has no such weights."""
    if backbone.name in SIZES and backbone.pretrained is not None:
        raise InputError(
            f"backbone.pretrained '{backbone.pretrained}': {backbone.name} is embedded and has no tags; leave it out"
        )
    if backbone.checkpoint is not None:
        return "present" if Path(backbone.checkpoint).is_file() else "absent"
    if backbone.name in SIZES:
        return "embedded"
    if backbone.pretrained is None:
        raise InputError(f"backbone '{backbone.name}' has no weights: set backbone.pretrained or backbone.checkpoint")
    source = get_pretrained_cfg(backbone.name, backbone.pretrained)
    if not source:
        raise InputError(f"backbone.pretrained '{backbone.pretrained}' is not a tag of {backbone.name}")
    if source.get("hf_hub"):  # open_clip prefers it
        repository, _, name = source["hf_hub"].rpartition("/")
        names = (name,) if name else HUB_FILES
        return "present" if any(isinstance(try_to_load_from_cache(repository, n), str) for n in names) else "absent"
    return "present" if (Path("~/.cache/clip").expanduser() / Path(source["url"]).name).is_file() else "absent"


def bf16_slowdown() -> float:
    """Time of a matrix product of this CPU in bfloat16 over that in float32; below 1 where it has units for it."""
    return _product_seconds(torch.bfloat16) / _product_seconds(torch.float32)


def gpu_bytes() -> int | None:
    """Memory of the smallest GPU of this machine, as its driver tells; null without one. Ray hides GPUs from workers
    that ask for none, so torch does not see them here. InputError where nvidia-smi does not run or hangs."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise InputError(f"nvidia-smi has not answered within {SMI_SECONDS:g} s") from error
    except OSError as error:
        raise InputError(f"nvidia-smi does not run ({error.strerror})") from error
    sizes = [int(line) << 20 for line in answer.stdout.split() if line.isdigit()]  # in MiB
    return min(sizes, default=None)


def disk_of(path: Path, *, of_ray: bool) -> Disk:
    """The disk of a folder that may not exist yet."""
    usage = shutil.disk_usage(existing(path))
    return Disk(str(path), usage.free, usage.total, of_ray)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _or_problem(question: Callable[[], T]) -> tuple[T | None, str | None]:
    """The answer, or why there is none: one that fails must not cost the node's other answers."""
    try:
        return question(), None
    except Exception as error:  # of any library below; a checkup reports what it meets
        return None, one_line(error)


def _product_seconds(dtype: torch.dtype) -> float:
    """The best of three, after one that may have to set things up."""
    matrix, seconds = torch.ones(256, 256, dtype=dtype), []
    for _ in range(4):
        began = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _reads(file: Location) -> bytes | None:
    try:
        return file.read_bytes()
    except (InputError, OSError):
        return None  # why not is what `storage_problem` says


def _local_inputs(config: Config) -> list[str]:
    named = [config.target.path, config.backbone.checkpoint]
    named += [config.synthesize.path] if config.synthesize.source != "procedural" else []
    return [path for path in named if path and "://" not in path and not any(c in path for c in "*?[")]


def _disks(output: Location) -> Iterator[Disk]:
    yield disk_of(Path(ray.get_runtime_context().get_temp_dir()), of_ray=True)
    if output.is_local:
        yield disk_of(existing(Path(output.path)), of_ray=False)


def _source_hash() -> str:
    """Ten hex digits of all source files of the package: two checkouts may have the same version number."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for folder in ("grmp_core", "pipelines"):
        for file in sorted((root / folder).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:10]
