"""The target of a configuration: where its images lie, and how many of its rows may be left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from grmp_core.datasets import DATASETS
from grmp_core.errors import InputError
from grmp_core.imaging.decoding import id_of_file
from grmp_core.inspection.leaks import training_hashes
from grmp_core.inspection.near_duplicates import hash_of
from grmp_core.model.backbone import BackboneConfig
from grmp_core.procedural import scenes
from grmp_core.ratings.vote_log import VoteLog
from grmp_core.score_range import ScoreRange
from pipelines.configuration.field_help import field_docs
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import load_config
from pipelines.few_shot.labelled_target import bad_rows, check_leaks, check_rejects, load_target
from pipelines.few_shot.target_protocol import target_protocol
from tests.grmp_core.ratings.votes import grade
from tests.pipelines.labelling.folders import write_images


@pytest.fixture
def labels(tmp_path):
    """Ten rows: eight usable ones, one without its image, one without a score."""
    (tmp_path / "pictures").mkdir()
    rows = ["image,mos"]
    for i in range(10):
        if i != 3:
            Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
        rows.append(f"{i}.png,{'n/a' if i == 5 else i}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path / "labels.csv"


def target_of(labels, fraction):
    settings = [f"target.path={labels}", "target.image_folder=pictures", f"target.max_reject_fraction={fraction}"]
    return load_config(None, settings).target


def test_missing_images_and_bad_scores_count_together(labels, capsys):
    with pytest.raises(InputError, match="2 of 10 label rows cannot be used and 1 may be left out"):
        load_target(target_of(labels, 0.1))
    target = load_target(target_of(labels, 0.2))
    assert len(target) == 8
    assert [row["reason"].partition(": ")[2] for row in bad_rows(target)] == [
        "image not found",
        "the score 'n/a' is not a number",
    ]
    assert "target: 2 label rows left out; the first: labels.csv line 5: image not found" in capsys.readouterr().err


def test_unreadable_images_count_beside_the_rows_that_loading_has_left_out(labels, capsys):
    unreadable = [{"path": "7.png", "reason": "damaged"}]
    for fraction, allowed in ((0.3, True), (0.2, False)):
        config = target_of(labels, fraction)
        target = load_target(config)
        if allowed:
            check_rejects(config, len(target), unreadable, bad_rows(target))
        else:
            with pytest.raises(
                InputError, match=r"3 of 10 target images .* target\.max_reject_fraction; the first: 7\.png"
            ):
                check_rejects(config, len(target), unreadable, bad_rows(target))
    assert "target: skipped 7.png: damaged" in capsys.readouterr().err


def test_leaks_from_training_are_refused_where_they_take_part(capsys):
    known = training_hashes("grmp-nano")
    hashes = np.array([hash_of(scenes.reference(1)), known[500], known[900]], np.uint64)
    paths, everything = ["a.png", "b.png", "c.png"], np.ones(3, bool)
    strict, nano = TargetConfig(), BackboneConfig()
    with pytest.raises(InputError, match=r"2 of 3 target images are near-duplicates .*grmp-nano, the first: b\.png"):
        check_leaks(strict, nano, paths, hashes, everything)
    check_leaks(strict, nano, paths, hashes, np.array([True, False, False]))
    assert not capsys.readouterr().err
    check_leaks(TargetConfig(allow_leaks=True), nano, paths, hashes, everything)
    assert "2 of 3 target images" in capsys.readouterr().err
    check_leaks(strict, BackboneConfig(name="ViT-B-16-quickgelu"), paths, hashes, everything)  # nobody knows its photos


def test_the_help_names_every_data_set():
    doc = field_docs(TargetConfig)["dataset"]
    listed = doc.partition("downloaded: ")[2].partition(". Or")[0].split(", ")
    assert sorted(listed) == sorted(name for name in DATASETS if name not in ("table", "kadis700k"))


def test_a_sweep_reads_votes_as_they_are(tmp_path, capsys):
    """The log of `grmp rate`, by its name or the folder's; settings that are of tables are refused."""
    folder = write_images(tmp_path, [f"{i}.png" for i in range(5)])
    log = VoteLog(str(folder / "votes.jsonl"))
    votes = [grade(rater, f"{i}.png", 1 + (i + r) % 5) for i in range(5) for r, rater in enumerate("AB")]
    log.append([replace(vote, image_ids=(id_of_file(str(folder / vote.images[0])),)) for vote in votes])
    log.close()
    for path in (log.path, folder):
        target = load_target(load_config(None, [f"target.path={path}"]).target)
        assert target.mos.tolist() == [1.5, 2.5, 3.5, 4.5, 3.0]
        assert target.score_range == ScoreRange(mos_min=1, mos_max=5)
        assert "target: 5 labels from 10 votes of 2 raters" in capsys.readouterr().err
    protocol = target_protocol(load_config(None, [f"target.path={log.path}"]), target)
    assert len(protocol.splits.takes_part) == 5
    for setting in ("higher_is_better=false", "reference_column=scene", "deviation_column=sd"):
        with pytest.raises(InputError, match=r"votes"):
            load_target(load_config(None, [f"target.path={log.path}", f"target.{setting}"]).target)
    (folder / "labels.csv").write_text("image,mos\n0.png,1\n1.png,2\n")
    with pytest.raises(InputError, match="are of a vote log"):
        load_target(load_config(None, [f"target.path={folder / 'labels.csv'}", "target.vote_labels=model"]).target)
