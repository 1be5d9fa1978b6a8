"""Held-out photos through a change of capture, written as a labelled table."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from grmp_core.errors import InputError
from pipelines.backbone_training.target_tables import CHANGES, write_pseudo_target, write_target_table

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def material() -> SimpleNamespace:
    """Six photos, of which the odd ones are held out."""
    store = SimpleNamespace(
        pixels=lambda n: np.roll(PHOTO, n, axis=0), rows=[SimpleNamespace(score=n / 10) for n in range(6)]
    )
    return SimpleNamespace(store=store, validation=lambda _: np.array([1, 3, 5]), groups_N=np.array([0, 1, 2, 1, 4, 5]))


@pytest.mark.parametrize("change", CHANGES)
def test_held_out_photos_are_written_with_their_scores_and_groups(tmp_path, change):
    labels = write_pseudo_target(material(), change, tmp_path / "out")
    rows = list(csv.DictReader(labels.read_text().splitlines()))
    assert [(row["image"], row["mos"], row["group"]) for row in rows] == [
        ("00001.png", "0.1", "1"),
        ("00003.png", "0.3", "1"),
        ("00005.png", "0.5", "5"),
    ]
    written = cv2.imread(str(tmp_path / "out" / "00001.png"))[..., ::-1]
    expected = np.roll(PHOTO, 1, axis=0)
    if change == "none":
        np.testing.assert_array_equal(written, expected)
    elif change == "shrunk":
        means = expected.reshape(30, 2, 40, 2, 3).mean(axis=(1, 3))
        assert np.abs(written - means).max() <= 0.5 + 1e-6  # area interpolation is the mean
    else:
        assert written.shape == expected.shape
        assert 0 < np.abs(written.astype(int) - expected).mean() < 60


def test_fewer_photos_are_drawn_by_the_seed(tmp_path):
    labels = write_pseudo_target(material(), "none", tmp_path / "out", count=2)
    assert len(list(csv.DictReader(labels.read_text().splitlines()))) == 2


def test_a_target_s_table_leaves_out_neighbours_of_training_and_groups_its_own(tmp_path, monkeypatch):
    rows = [SimpleNamespace(name=f"{i}.png", score=i / 10) for i in range(4)]
    hashes = np.array([0b1, 0b1111, 2**63 - 1, 2**40 - 1], dtype=np.uint64)  # the first two differ in 3 bits
    features = np.eye(8, dtype=np.float32)
    target = SimpleNamespace(store=SimpleNamespace(rows=rows), hashes_N=hashes, features_NF=features[:4])
    monkeypatch.setattr("pipelines.backbone_training.target_tables.read_described", lambda *_: target)
    training = SimpleNamespace(hashes_N=hashes[2:3], features_NF=features[7:])
    for row in rows:
        (tmp_path / row.name).touch()
    table, left_out = write_target_table(training, tmp_path, tmp_path, tmp_path / "labels.csv")
    assert left_out == 1
    written = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["image"], row["mos"]) for row in written] == [
        (str(tmp_path / "0.png"), "0.0"),
        (str(tmp_path / "1.png"), "0.1"),
        (str(tmp_path / "3.png"), "0.3"),
    ]
    groups = [row["group"] for row in written]
    assert groups[0] == groups[1] != groups[2]
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=r"does not hold 1\.png"):
        write_target_table(training, tmp_path, tmp_path, tmp_path / "labels.csv")
