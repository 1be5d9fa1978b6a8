"""Helpers of the workloads' tests: a small target, and runs beside one another."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import torch

from grmp_core.procedural import scenes
from pipelines.configuration.schema import Config
from tests.checkpoints import has_checkpoint

ROOT = Path(__file__).resolve().parents[3]
TASKS = ("gaussian_blur", "white_noise")
NUM_IMAGES = 15


def labelled_folder(folder: Path) -> Path:
    folder.mkdir()
    for i in range(NUM_IMAGES):
        height = 200 if i % 2 else 230  # every other one leaves no room for a second row of views
        write_png(folder / f"{i}.png", scenes.reference(500 + i, height, 260))
    frame = {"image": [f"{i}.png" for i in range(NUM_IMAGES)], "mos": np.linspace(1, 9, NUM_IMAGES)}
    pd.DataFrame(frame).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


def write_png(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def moved(config: Config, output: Path, name: str, **pretraining) -> Config:
    """The same run with its own output and the shared task store."""
    folder = output / name
    folder.mkdir()
    (folder / "tasks").symlink_to(Path(config.output) / "tasks")
    return dataclasses.replace(config, output=str(folder), pretrain=dataclasses.replace(config.pretrain, **pretraining))


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], rtol: float = 1e-6) -> None:
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=rtol, atol=1e-9)


def kill_a_train_worker(run: Path, killed: list[int], stop: threading.Event) -> None:
    """SIGKILL to one Ray Train worker as soon as the run in the folder `run` has a checkpoint to go on from."""
    while not stop.is_set():
        if has_checkpoint(run):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any("RayTrainWorker" in part for part in process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
                        return
        time.sleep(0.02)
