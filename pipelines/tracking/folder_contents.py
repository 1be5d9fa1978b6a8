"""The folders of finished commands as the contents of MLflow runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import DatasetInput

from grmp_core.identity import digest_of
from grmp_core.model.bundle import read_bundle
from grmp_core.storage import Location
from pipelines.results.stream_folder import StreamFolder
from pipelines.results.sweep_folder import SweepFolder, TrialFolder
from pipelines.tracking import run_records
from pipelines.tracking.system_metrics import Sample, read_samples


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """All that a run holds."""

    command: str
    key: str
    """Which run it is, also where it was logged only in part."""
    digest: str
    """Changes with what there is to log."""
    manifest: dict[str, Any]
    metrics: run_records.Values
    datasets: list[DatasetInput]
    files: list[tuple[Location, str]]
    """Each with its folder in the run."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Beside the configuration."""
    nested: Sequence[tuple[dict[Any, Any], TrialFolder]] = ()
    """Rows of trials, each of which is a run of its own."""
    starts_from: tuple[str, ...] = ()
    """Digests of the bundles that it learned from."""
    system: list[Sample] = field(default_factory=list)
    makes: str | None = None
    """Digest of prompts that others start from."""
    failed: bool = False


def of_sweep(folder: Location) -> RunContent:
    """One parent run, one nested run a trial and a setting that a search tried."""
    sweep = SweepFolder(folder).read()
    files = sweep.folder.files(searched=sweep.searched is not None)
    tried = [] if sweep.searched is None else sweep.searched.to_dict("records")
    rows = [*sweep.trials.to_dict("records"), *tried]
    return RunContent(
        command="sweep",
        key=digest_of("sweep", folder.uri, sweep.manifest.get("inputs")),
        digest=digest_of(*(file.read_bytes() for file, _ in files)),
        manifest=sweep.manifest,
        metrics=run_records.sweep_metrics(sweep),
        datasets=run_records.datasets(sweep.manifest),
        files=files,
        nested=[(row, sweep.folder.trial(row["trial"])) for row in rows],
        starts_from=run_records.started_from(sweep.manifest),
        system=read_samples(folder),
        failed=len(sweep.finished) == 0,
    )


def of_stream(root: Location) -> RunContent:
    """One parent run with SRCC by step, one nested run a set."""
    folder = StreamFolder(root)
    manifest, files = folder.manifest(), folder.files()
    return RunContent(
        command="continual",
        key=digest_of("stream", root.uri),
        digest=digest_of(*(file.read_bytes() for file, _ in files if file.name != "manifest.json"), folder.rows()),
        manifest=manifest,
        metrics=run_records.stream_metrics(manifest, folder.srcc()),
        datasets=run_records.stream_datasets(manifest),
        files=files,
        nested=[(row, folder.named_step(row["trial"])) for row in folder.rows()],
        system=read_samples(root),
    )


def of_pretrain(folder: Location) -> RunContent:
    """Losses by step, configuration, and the prompts."""
    manifest, history = _manifest_and_history(folder)
    content = digest_of("pretrain", folder.uri, history, manifest.get("config"), manifest.get("inputs"))
    return RunContent(
        command="pretrain",
        key=content,
        digest=content,
        manifest=manifest,
        metrics=run_records.history_metrics(history["history"]),
        datasets=run_records.datasets(manifest),
        files=_files(folder),
        system=read_samples(folder),
        makes=read_bundle(folder / "bundle").digest,
    )


def of_adapt(folder: Location) -> RunContent:
    """Curves by epoch and the model, with the labels and the prompts that it comes from."""
    manifest, history = _manifest_and_history(folder)
    content = digest_of("adapt", folder.uri, history, manifest.get("config"), manifest.get("inputs"))
    measured = {**manifest.get("counts", {}), "seconds": manifest.get("seconds")}
    return RunContent(
        command="adapt",
        key=content,
        digest=content,
        manifest=manifest,
        metrics=run_records.trial_metrics(measured, history),
        datasets=run_records.datasets(manifest),
        files=_files(folder),
        params={"bundle": (folder / "bundle").uri},
        starts_from=run_records.started_from(manifest),
    )


def of_distil(folder: Location) -> RunContent:
    """The curve of the training and the student, with its images, labels and teacher. Training that was interrupted
    and went on is one run."""
    manifest, history = _manifest_and_history(folder)
    counts = manifest.get("counts", {})
    return RunContent(
        command="distil",
        key=digest_of("distil", folder.uri, manifest["inputs"]["identity"]),
        digest=digest_of(history, manifest["inputs"]),
        manifest=manifest,
        metrics=[
            *run_records.history_metrics(history["history"]),
            *((name, counts[name], 0) for name in ("teacher_srcc", "images", "labels") if name in counts),
        ],
        datasets=run_records.datasets(manifest),
        files=_files(folder),
        params={"bundle": (folder / "bundle").uri},
        system=read_samples(folder),
        starts_from=run_records.started_from(manifest),
    )


CONTENTS: dict[str, Callable[[Location], RunContent]] = {
    "sweep": of_sweep,
    "pretrain": of_pretrain,
    "stream": of_stream,
    "adapt": of_adapt,
    "distil": of_distil,
}


def _manifest_and_history(folder: Location) -> tuple[dict[str, Any], dict[str, Any]]:
    return (folder / "manifest.json").read_json(), (folder / "history.json").read_json()


def _files(folder: Location) -> list[tuple[Location, str]]:
    here = [(folder / name, "") for name in ("manifest.json", "history.json")]
    return [*here, *((file, "bundle") for file in (folder / "bundle").list())]
