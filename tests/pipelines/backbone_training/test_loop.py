"""The training loop on small material: it goes on where it stopped, and leaves weights and a record of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from grmp_core.errors import InputError
from grmp_core.model.nano_trunk import MODEL_CONFIG
from grmp_core.nano.crops import CropConfig
from grmp_core.nano.material import class_words_of, read_material, sources_of
from grmp_core.nano.photo_store import PhotoStore, SourcePhoto, write_store
from grmp_core.nano.sentences import HELD_OUT_TYPES
from pipelines import train_backbone
from pipelines.backbone_training.loop import train
from pipelines.backbone_training.ray_workers import train_on_workers
from pipelines.backbone_training.run_config import RunConfig

SMALL = CropConfig(rated=3, distorted=2, pristine=1)


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """Rated photos and one sample for each of 1,000 classes, all of them noise, with a made-up classifier's word."""
    photos, folder, rng = (
        tmp_path_factory.mktemp("photos"),
        tmp_path_factory.mktemp("material"),
        np.random.default_rng(0),
    )
    sources = []
    for number in range(60):
        path = photos / f"ss0{1 if number % 2 else 3} ({number}).png"
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (240, 230), interpolation=cv2.INTER_CUBIC))
        sources.append(SourcePhoto(path=path, source="biq2021", score=float(rng.uniform(0.3, 0.95))))
    for number in range(1000):
        path = photos / f"n{number:08d}_class_{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        sources.append(SourcePhoto(path=path, source="imagenet_samples"))
    write_store(folder, sources)
    np.save(folder / "classes.npy", rng.dirichlet(np.full(1000, 0.01), len(sources)).astype(np.float16))
    np.save(folder / "features.npy", rng.normal(size=(len(sources), 40)).astype(np.float16))
    np.save(folder / "hashes.npy", rng.integers(0, 2**63, len(sources)).astype(np.uint64))
    return folder


@pytest.fixture
def config(material, tmp_path) -> RunConfig:
    start = tmp_path / "start.safetensors"
    clip = open_clip.CLIP(**MODEL_CONFIG)
    save_file({name: tensor.half().contiguous() for name, tensor in clip.state_dict().items()}, start)
    return RunConfig(
        material=str(material), out=str(tmp_path / "out"), start_from=str(start), steps=1, workers=0, precision="fp32"
    )


def test_a_run_goes_on_from_its_checkpoint_to_what_one_run_gives(config, tmp_path):
    train(config, SMALL)
    with pytest.raises(InputError, match="was made with seed 0; give the same again"):
        train(replace(config, seed=1), SMALL)
    train(replace(config, steps=2), SMALL)
    whole = replace(config, out=str(tmp_path / "whole"), steps=2)
    train(replace(whole, steps=2), SMALL)
    # the length of a run decides about its rates: the first step of the shorter run had its own
    resumed, straight = (torch.load(Path(c.out) / "checkpoint.pt", weights_only=True) for c in (config, whole))
    assert resumed["trainer"]["step"] == straight["trainer"]["step"] == 2
    record = json.loads((Path(config.out) / "training.json").read_text())
    assert record["steps"] == 2
    assert record["crops"] == 12
    assert record["held_out_types"] == list(HELD_OUT_TYPES)
    assert 0 < record["held_out_photos"]["biq2021"] < 30
    assert set(record["validation"]) == {"srcc", "srcc_ss01", "srcc_ss03"}
    clip = open_clip.CLIP(**MODEL_CONFIG)
    state = load_file(Path(config.out) / "weights.safetensors")
    clip.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)


@pytest.mark.parametrize(
    "option", ["--steps=-1", "--minutes=0", "--workers=-1", "--learning-rate=0", "--triplet-weight=-1"]
)
def test_numbers_that_make_no_run_are_refused(option, tmp_path, capsys):
    out = ["--material", str(tmp_path), "--out", str(tmp_path / "out")]
    assert train_backbone.main(["train", *out, option]) == 2
    assert f"error: {option.split('=')[0]}" in capsys.readouterr().err


def test_weights_to_go_on_from_must_exist(config):
    with pytest.raises(InputError, match=r"nowhere\.safetensors' does not exist"):
        train(replace(config, start_from="nowhere.safetensors"), SMALL)


@pytest.mark.slow
@pytest.mark.ray
def test_two_workers_of_ray_train_end_with_one_set_of_weights(config, tmp_path, ray_instance):
    """Each takes every second batch; their step is the one of the mean gradient."""
    train_on_workers(replace(config, steps=2), 2, SMALL)
    state = torch.load(Path(config.out) / "checkpoint.pt", weights_only=True)["trainer"]
    record = json.loads((Path(config.out) / "training.json").read_text())
    assert state["step"] == 2
    assert record["training_processes"] == 2
    assert record["crops"] == 24
    alone = replace(config, steps=2, out=str(tmp_path / "alone"))
    train(alone, SMALL)
    other = torch.load(Path(alone.out) / "checkpoint.pt", weights_only=True)["trainer"]
    assert not torch.equal(state["model"]["rows_UD"], other["model"]["rows_UD"]), "the second worker had no say"


def test_training_and_validation_share_no_group(material):
    read = read_material(material)
    training, kept = set(read.training.tolist()), set(np.flatnonzero(read.is_held_out_N).tolist())
    assert training | kept == set(range(len(read.store)))
    assert not {read.groups_N[i] for i in training} & {read.groups_N[i] for i in kept}
    assert class_words_of(read.store)[7] == "class 7"


def test_sources_are_the_rated_subsets_and_the_folders(material, tmp_path):
    store = PhotoStore(material)
    rated, pristine = tmp_path / "rated", tmp_path / "pristine"
    rated.mkdir(), pristine.mkdir()
    for name in ("ss01 (1).jpg", "ss03 (2).jpg"):
        cv2.imwrite(str(rated / name), store.pixels(0))
    cv2.imwrite(str(pristine / "a.jpg"), store.pixels(1))
    table = tmp_path / "train.csv"
    table.write_text("image,mos\nss03 (2).jpg,0.5\nss02 (9).jpg,0.4\nss01 (1).jpg,0.25\n")
    sources = sources_of(table, rated, [pristine])
    assert [(p.path.name, p.source, p.score) for p in sources] == [
        ("ss01 (1).jpg", "biq2021", 0.25),
        ("ss03 (2).jpg", "biq2021", 0.5),
        ("a.jpg", "pristine", None),
    ]
    (rated / "ss01 (1).jpg").unlink()
    with pytest.raises(InputError, match="1 rated photos are not in"):
        sources_of(table, rated, [pristine])


def test_the_command_says_in_one_line_what_is_missing(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert train_backbone.main(["train", "--material", str(tmp_path), *out]) == 2
    assert "holds no photo store" in capsys.readouterr().err
