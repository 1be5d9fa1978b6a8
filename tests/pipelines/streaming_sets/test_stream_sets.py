"""Sets that do not make a stream are one clear line, before anything is encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grmp_core.errors import InputError
from pipelines.cli import run_command
from pipelines.configuration.loading import load_config
from pipelines.streaming_sets.stream_sets import check_shared_images, protocol_of, read_sets


def set_file(folder: Path, name: str, images: int = 10, column: str = "mos", extra: str = "") -> str:
    """A configuration of a set with so many grey pictures, the brighter the higher the score."""
    place = folder / f"data-{name}"
    place.mkdir()
    rows = [f"image,{column}"]
    for i in range(images):
        Image.fromarray(np.full((8, 8, 3), 10 * i + len(name), np.uint8)).save(place / f"{i}.png")
        rows.append(f"{i}.png,{i + len(name)}")
    (place / "labels.csv").write_text("\n".join(rows))
    file = folder / f"{name}.yaml"
    file.write_text(f"target: {{path: {place / 'labels.csv'}{extra}}}")
    return str(file)


def test_a_set_comes_once(tmp_path):
    first = set_file(tmp_path, "a")
    with pytest.raises(InputError, match="set a is already in the stream"):
        read_sets([first, first])
    again = tmp_path / "again.yaml"
    again.write_text(Path(first).read_text())
    with pytest.raises(InputError, match="set again is already in the stream as a"):
        read_sets([first, str(again)])


def test_no_sets_and_unfit_names(tmp_path):
    with pytest.raises(InputError, match="no sets: name a configuration file for each with --sets"):
        read_sets([])
    odd = tmp_path / "a b.yaml"
    odd.write_text("")
    with pytest.raises(InputError, match="its file's name names it; use up to 60 letters"):
        read_sets([str(odd)])


def test_other_sections_of_a_set_s_file_are_named(tmp_path, capsys):
    file = Path(set_file(tmp_path, "a"))
    file.write_text(f"output: elsewhere\n{file.read_text()}")
    read_sets([str(file)])
    assert f"of {file} only target is read, not output" in capsys.readouterr().err


def test_a_set_that_cannot_be_read_is_kept_with_its_reason(tmp_path):
    empty = set_file(tmp_path, "empty", images=0)
    (one,) = read_sets([empty])
    assert one.labelled is None
    assert "no rows" in one.gone_because


def test_a_direction_is_turned_where_it_is_known_and_asked_for_where_not(tmp_path):
    turned = set_file(tmp_path, "b", column="dmos", extra=", higher_is_better: false")
    asked, straight = set_file(tmp_path, "cc", column="dmos"), set_file(tmp_path, "ddd")
    first, second, third = read_sets([turned, asked, straight])
    assert first.labelled is not None
    assert third.labelled is not None
    np.testing.assert_allclose(first.labelled.quality, third.labelled.quality[::-1], atol=1e-12)
    assert second.labelled is None
    assert "higher_is_better" in second.gone_because


def test_too_few_images_are_named_with_their_set(tmp_path):
    (one,) = read_sets([set_file(tmp_path, "few", images=10)])
    assert one.labelled is not None
    protocol_of(load_config(None, ["sweep.test_fraction=0.5"]), one, one.labelled)
    with pytest.raises(InputError, match="set few: its test part has 2 of 10 images, 5 are needed"):
        protocol_of(load_config(None), one, one.labelled)
    with pytest.raises(InputError, match=r"set few: .* 5 labelled images have 5 references, 9 are needed"):
        protocol_of(load_config(None, ["sweep.test_fraction=0.5", "adapt.folds=9"]), one, one.labelled)
    one.labelled.table = one.labelled.table.slice(0, 1)
    with pytest.raises(InputError, match="set few: split: 1 images of 1 references; at least 2"):
        protocol_of(load_config(None), one, one.labelled)


def test_an_image_in_two_sets_is_refused():
    check_shared_images({"a": ["1", "2"], "b": ["3"]})
    with pytest.raises(InputError, match="set b has 1 images in common with a"):
        check_shared_images({"a": ["1", "2"], "b": ["3", "2"]})


def test_the_command_ends_with_code_2_and_makes_nothing(tmp_path, capsys):
    empty = set_file(tmp_path, "empty", images=0)
    output = tmp_path / "out"
    assert run_command("continual", ["--sets", empty, empty, "--set", f"output={output}"]) == 2
    assert "set empty is already in the stream" in capsys.readouterr().err
    assert not output.exists()
