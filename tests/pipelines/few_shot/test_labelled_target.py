"""The target of a configuration: where its images lie, and how many of its rows may be left out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from grmp_core.errors import InputError
from pipelines.configuration.loading import load_config
from pipelines.few_shot.labelled_target import bad_rows, check_rejects, load_target


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
