"""Training the embedded backbone, a few steps: it goes on where it stopped, and workers of Ray Train add up right."""

from __future__ import annotations

import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import pytest
import torch

import grmp_core
from grmp_core.model.backbone import EMBEDDED, BackboneConfig, load_backbone
from grmp_core.nano.caption_model import start_from_whitened_patches
from grmp_core.nano.caption_training import TrainConfig, Trainer
from grmp_core.nano.training_crops import CropConfig, held_out, load_photos, make_batch
from grmp_core.procedural import scenes
from pipelines import train_backbone
from pipelines.backbone_training import loop

BATCH = 4
PROCEDURAL = 1


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    for i in range(3):
        picture = scenes.reference(70 + i, 270, 330)
        cv2.imwrite(str(place / f"n0000000{i}_thing_{i}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return place


def embedded_weights() -> Path:
    return Path(grmp_core.__file__).parent / "assets" / f"{EMBEDDED}.safetensors"


def train(folder: Path, out: Path, *options: str) -> dict:
    """-> the checkpoint that a run leaves."""
    small = ["--batch-size", str(BATCH), "--procedural", str(PROCEDURAL), "--threads", "1", "--seed", "5"]
    assert train_backbone.main(["--photos", str(folder), "--out", str(out), *small, *options]) == 0
    return torch.load(out / "checkpoint.pt", weights_only=True)["trainer"]


def test_a_run_goes_on_from_its_checkpoint_and_leaves_weights_that_load(folder, tmp_path, capsys):
    first = train(folder, tmp_path / "out", "--steps", "1")
    second = train(folder, tmp_path / "out", "--steps", "2")
    assert (first["step"], second["step"]) == (1, 2)
    assert second["optimizer"]["state"][0]["step"] == 2, "the optimizer began anew"
    with pytest.raises(AssertionError, match="2"):
        train(folder, tmp_path / "out", "--steps", "3", "--learning-rate", "0.5")
    assert "was made with --learning-rate 0.001; give the same again" in capsys.readouterr().err
    weights = str(tmp_path / "out" / "weights.safetensors")
    loaded = load_backbone(BackboneConfig(name=EMBEDDED, checkpoint=weights))
    torch.testing.assert_close(
        loaded.clip.visual.proj, second["average"]["clip.visual.proj"], rtol=2**-10, atol=2**-14
    )  # half precision


def test_a_run_that_starts_from_weights_goes_on_from_them_with_fresh_rows_for_new_words(folder, tmp_path, capsys):
    first = load_backbone(BackboneConfig()).clip.state_dict()
    words = ["thing 0", "thing 1", "zyzzyva"]
    trainer = loop.make_trainer(words, TrainConfig(), 5, loop.Rank(), str(embedded_weights()))
    state = trainer.averaged_model().export_state()
    for name, tensor in first.items():
        if name == "token_embedding.weight":
            known = (tensor != 0).any(dim=1) & (state[name] != 0).any(dim=1)
            assert known.any()
            torch.testing.assert_close(state[name][known].float(), tensor[known], rtol=2**-10, atol=2**-14)
            assert ((state[name] != 0).any(dim=1) & (tensor == 0).all(dim=1)).any(), "no row for a new word"
        elif tensor.is_floating_point():
            torch.testing.assert_close(state[name].float(), tensor, rtol=2**-10, atol=2**-14)
    train(folder, tmp_path / "out", "--steps", "1", "--start-from", str(embedded_weights()))
    moved = load_backbone(BackboneConfig(checkpoint=str(tmp_path / "out" / "weights.safetensors"))).clip
    torch.testing.assert_close(moved.visual.conv1.weight, first["visual.conv1.weight"], atol=0.02, rtol=0)
    with pytest.raises(AssertionError, match="2"):
        train(folder, tmp_path / "out", "--steps", "2")
    assert "was made with --start-from" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="2"):
        train(folder, tmp_path / "other", "--steps", "1", "--start-from", "nowhere.safetensors")
    assert "--start-from 'nowhere.safetensors' does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--steps=-1", "--minutes=0", "--workers=0", "--batch-size=0"])
def test_numbers_that_make_no_run_are_refused(folder, option, capsys):
    with pytest.raises(SystemExit) as ended:
        train_backbone.main(["--photos", str(folder), option])
    assert ended.value.code == 2
    assert "use more than 0" in capsys.readouterr().err


def test_a_batch_process_that_is_killed_ends_the_run(folder):
    options = train_backbone._parse(["--photos", str(folder), "--procedural", "0", "--batch-size", str(BATCH)])
    with loop.make_pool(options) as pool:
        batches = loop.bounded(pool, loop._jobs(options, 0, None), ahead=1)
        next(batches)
        for process in list(pool._processes.values()):
            process.kill()
        with pytest.raises(BrokenProcessPool):
            [next(batches) for _ in range(4)]


def test_nothing_is_measured_without_a_photo_held_out(folder, capsys):
    for photo in filter(held_out, list(folder.iterdir())):
        photo.unlink()
    assert train_backbone.main(["--photos", str(folder), "--measure", str(embedded_weights())]) == 2
    assert "is held out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ray
def test_workers_of_ray_train_learn_what_two_trainers_side_by_side_learn(folder, tmp_path, ray_instance):
    found = train(folder, tmp_path / "out", "--steps", "3", "--train-workers", "2")
    expected = side_by_side(folder, steps=3)
    assert found["step"] == expected.step == 3
    for name, tensor in expected.parameters.items():
        torch.testing.assert_close(found["masters"][name], tensor.detach(), rtol=1e-5, atol=1e-6)


def side_by_side(folder: Path, steps: int) -> Trainer:
    """Two trainers in two threads, each on its own batches, that meet to average their gradients; -> the first."""
    photo_set = load_photos([str(folder)], PROCEDURAL)
    meeting, brought = threading.Barrier(2, timeout=120), [torch.empty(0)] * 2

    def averaging(rank: int):
        def average(flat: torch.Tensor) -> None:
            brought[rank] = flat.clone()
            meeting.wait()
            flat.copy_((brought[0] + brought[1]) / 2)
            meeting.wait()

        return average

    def batch(index: int):
        return make_batch(photo_set.photos, BATCH, CropConfig(), 5, index)

    trainers = []
    for rank in range(2):
        trainer = loop.make_trainer(photo_set.class_words, TrainConfig(), 5, loop.Rank())
        images = torch.cat([batch(index).images_BHWC for index in range(-8, 0)])
        start_from_whitened_patches(trainer.model, images, torch.Generator().manual_seed(5))
        trainer.reset_average()
        trainer.average_over_workers = averaging(rank)
        trainers.append(trainer)

    def work(rank: int) -> None:
        for step in range(steps):
            trainers[rank].train_step(batch(2 * step + rank), step / steps)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return trainers[0]
