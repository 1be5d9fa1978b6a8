"""Archives as OpenAI publishes its models, made on the spot: tensors come out, and nothing runs."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.backbone import BackboneConfig, load_backbone
from grmp_core.model.torchscript_archive import is_torchscript, read_tensors


class Holder(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def scripted(state: dict[str, Tensor], path: Path) -> Path:
    """An archive with these tensors in modules by the parts of their names."""
    root = Holder()
    for name, tensor in state.items():
        module, *parts = root, *name.split(".")
        for part in parts[:-1]:
            if part not in module._modules:
                module.add_module(part, Holder())
            module = module._modules[part]
        module.register_buffer(parts[-1], tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(root).save(str(path))
    return path


def rewritten(path: Path, change) -> Path:
    """The archive with each entry as `change(name, data)` gives it."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, change(name, data))
    return path


@pytest.fixture
def openai(make_clip, tmp_path) -> Path:
    """A tiny CLIP in half precision with OpenAI's three numbers beside the weights, as its archives have them."""
    state = {name: tensor.half() for name, tensor in make_clip().state_dict().items()}
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    return scripted({**state, **{name: torch.tensor(n) for name, n in numbers.items()}}, tmp_path / "ViT.pt")


def test_openai_s_archive_is_a_backbone(openai, make_clip, tmp_path):
    half = {name: tensor.half().float() for name, tensor in make_clip().state_dict().items()}
    torch.save(half, tmp_path / "same.pt")
    assert is_torchscript(openai)
    assert not is_torchscript(tmp_path / "same.pt")
    loaded, same = (
        load_backbone(BackboneConfig(name="tiny-quickgelu", checkpoint=str(path)))
        for path in (openai, tmp_path / "same.pt")
    )
    assert loaded.weights_sha256 == same.weights_sha256


def test_tensors_are_the_saved_ones_bit_for_bit(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    state = {"a.0.b": base.T, "a.0.c": base[1:3, ::2], "d": torch.tensor(7), "e.f": base.bfloat16(), "g": base > 5}
    found = read_tensors(scripted(state, tmp_path / "x.pt"))
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_the_program_of_an_archive_is_not_looked_at(openai, make_backbone):
    rewritten(openai, lambda name, data: b"raise SystemExit" if "/code/" in name else data)
    assert load_backbone(BackboneConfig(name="tiny-quickgelu", checkpoint=str(openai))).image_size_px == 32


def test_what_is_not_a_tensor_is_refused_and_not_run(openai, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    bomb = pickle.dumps(Bomb(), protocol=2)
    rewritten(openai, lambda name, data: bomb if name.endswith("data.pkl") else data)
    with pytest.raises(InputError, match="which is no tensor"):
        load_backbone(BackboneConfig(name="tiny-quickgelu", checkpoint=str(openai)))
    assert not (tmp_path / "exploded").exists()


def test_a_tensor_outside_its_storage_is_refused(openai):
    def cut(name: str, data: bytes) -> bytes:
        return data[:-2] if "/data/" in name else data

    with pytest.raises(ValueError, match="bytes, not"):
        read_tensors(rewritten(openai, cut))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(0, (3, 3), (3, 1)), (5, (4,), (1,)), (-1, (2,), (1,)), (7, (2,), (-1,))]
)
def test_no_shape_reads_foreign_memory(offset, shape, strides, tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", description(offset, shape, strides))
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data/0", bytes(32))
    with pytest.raises(ValueError, match="does not fit into its storage"):
        read_tensors(path)


def description(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The pickle of one tensor over eight float32 numbers."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, "0", "cpu", 8) if isinstance(obj, Storage) else None

    class Shape:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, strides, False, None)

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(Shape())
    return stream.getvalue()
