"""A sweep's folder as the sweep command leaves it, filled with made-up results of a known law."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from grmp_core.learning.few_shot import AdaptResult, EpochRecord
from grmp_core.storage import locate
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import results_frame
from pipelines.results.trial import Trial, TrialResult
from pipelines.sweeping.grid import choose

ERROR = "NonFiniteLossError: epoch 3, batch 1: quality loss is nan <not a number>"


def true_srcc(strength: float, shots: int) -> float:
    """The law behind the made-up results: it rises with labels, levels off, and is best near lambda 2."""
    return 0.86 - 0.012 * (np.log1p(strength) - np.log1p(2)) ** 2 - 0.9 * shots**-0.6


def write_sweep(
    folder: Path,
    lambdas: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0),
    shots: Sequence[int] = (10, 25, 50, 100, 200),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    n_train: int = 650,
    n_test: int = 160,
    fail: Sequence[str] = (),
    config: dict | None = None,
    images: bool = True,
) -> Path:
    """Write `<folder>/sweep`; trials named in `fail` have failed (`*`: all). Returns the sweep's folder."""
    sweep = SweepFolder.of(str(folder))
    pictures = _pictures(folder / "images", n_test) if images else [f"/nowhere/{i:03d}.jpg" for i in range(n_test)]
    rows = []
    for strength, n, seed in itertools.product(lambdas, shots, seeds):
        trial = Trial(strength=strength, shots=n, budget=n, data_ratio=n / n_train, split_seed=seed)
        failed = trial.name in fail or "*" in fail
        rows.append((trial, TrialResult(error=ERROR) if failed else _trial(sweep, trial, pictures)))
    table = results_frame(rows)
    sweep.write_results(table, choose(table))
    sweep_config = {"lambdas": list(lambdas), "shots": list(shots), "ratios": [], "split_seeds": list(seeds)}
    manifest = {
        "command": "sweep",
        "config": config or {"output": str(folder), "seed": 0, "sweep": sweep_config, "adapt": {"lr": 0.001}},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "versions": {"python": "3.11.9", "torch": "2.15.0", "ray": "2.60.0"},
        "inputs": {"target": "sha256:feed"},
        "counts": {"trials": len(rows), "finished": int(table["error"].isna().sum())},
        "rejected": [{"path": "broken.jpg", "reason": "damaged or truncated"}],
        "created_utc": "2025-01-02T03:04:05Z",
        "seconds": 4711.0,
    }
    (sweep.root / "manifest.json").write_json(manifest)
    return Path(sweep.uri)


def _trial(sweep: SweepFolder, trial: Trial, pictures: list[str]) -> TrialResult:
    strength, shots, seed = trial.strength, trial.shots, trial.split_seed
    rng = np.random.default_rng([seed, shots, int(strength * 10)])
    split = np.random.default_rng([seed]).normal(0, 0.012)
    reached = true_srcc(strength, shots) + split + rng.normal(0, 0.004)
    quality, mos = _predictions(rng, reached, len(pictures))
    plcc = float(np.corrcoef(quality, mos)[0, 1])
    table = {"image_path": pictures, "mos": mos, "quality": quality, "mos_scale_score": 100 * quality}
    folder = sweep.trial(trial.name)
    folder.write_predictions(pd.DataFrame(table))
    epochs = 12
    history = tuple(
        EpochRecord(e, 0.7 - 0.02 * e, 0.1 if strength else math.nan, 88.0, 0.4) for e in range(1, epochs + 1)
    )
    curve = tuple((e, reached - 0.1 / e) for e in range(1, 31))
    folder.write_history(AdaptResult({}, epochs, curve[epochs][1], curve, history, np.array([])))
    return TrialResult(
        val_srcc=reached + rng.normal(0, 0.2 / np.sqrt(shots)),
        srcc=reached,
        plcc=plcc,
        plcc_logistic=plcc + 0.01,
        krcc=0.7 * reached,
        rmse=9.0,
        logistic_converged=True,
        epochs=epochs,
        seconds=20 + 0.9 * shots,
        bundle=folder.bundle.uri,
    )


def _predictions(rng: np.random.Generator, srcc: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    human = rng.normal(size=n)
    guess = srcc * human + np.sqrt(max(1 - srcc**2, 0)) * rng.normal(size=n)
    return 1 / (1 + np.exp(-guess)), 58 + 17 * human


def _pictures(folder: Path, n: int) -> list[str]:
    """`n` paths; a dozen small files behind them, so that they are quick to write, and one of them broken."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        path = folder / f"photo-{i:03d}.jpg"
        if i % 13 == 12:
            path.write_bytes(b"not a picture")
        else:
            small = rng.integers(0, 255, size=(3, 4 + i % 3, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(small).resize((96, 64 + 8 * (i % 5)), Image.Resampling.BICUBIC).save(buffer, "JPEG")
            path.write_bytes(buffer.getvalue())
        paths.append(str(locate(path).path))
    return paths
