"""The mean of several runs' weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.train_backbone import main


def test_the_mean_is_taken_in_float32_and_kept_in_the_files_precision(tmp_path):
    first, second = torch.tensor([1.0, 60000.0]), torch.tensor([2.0, 60000.0])
    for name, tensor in (("a", first), ("b", second)):
        save_file({"weight": tensor.half(), "steps": torch.tensor(7)}, tmp_path / name)
    assert main(["average", "--weights", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]) == 0
    mean = load_file(tmp_path / "c")
    assert mean["weight"].dtype == torch.float16
    assert mean["weight"].tolist() == [1.5, 60000.0]  # whose sum is no half-precision number
    assert int(mean["steps"]) == 7


@pytest.mark.parametrize("other", [{"weight": torch.zeros(3)}, {"bias": torch.zeros(2)}, None])
def test_weights_of_another_network_or_none_are_refused_with_a_line(other, tmp_path, capsys):
    save_file({"weight": torch.zeros(2)}, tmp_path / "a")
    if other is not None:
        save_file(other, tmp_path / "b")
    assert main(["average", "--weights", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
