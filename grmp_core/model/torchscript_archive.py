"""Tensors of a TorchScript archive, such as OpenAI's own `ViT-B-16.pt`, without running anything of it.

An archive is a zip file: `data.pkl` describes a tree of modules, `data/0`, `data/1` … hold the numbers, and `code/` the
program, which is not looked at. The description is a pickle; here it can name tensors, dictionaries and modules, and
modules become plain objects. Anything else in it is refused.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Module:
    """A module of the archive: its tensors and children as attributes."""


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Whether a file is such an archive, not one that `torch.save` wrote."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Name (`visual.conv1.weight`) -> tensor on the CPU, as stored, of every tensor of every module.

    Raises ValueError or pickle.UnpicklingError for an archive that is damaged or holds something else.
    """
    with zipfile.ZipFile(path) as archive:
        description = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = _Reader(archive, description.removesuffix(".pkl")).load()
    return dict(_tensors(root, ""))


def _tensors(module: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}.pkl"))
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor_of,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"the archive names {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, numbers = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("the archive names something that is no storage of numbers")
        if key not in self._storages:
            entry = self._archive.getinfo(f"{self._folder}/{key}")
            if entry.file_size != numbers * dtype.itemsize or entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"storage {key} has {entry.file_size} bytes, not {numbers} numbers of {dtype}")
            self._storages[key] = torch.frombuffer(bytearray(self._archive.read(entry)), dtype=dtype)
        return self._storages[key]


def _tensor_of(storage: Tensor, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> Tensor:
    """A tensor with memory of its own. ValueError where it would reach outside its storage."""
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides), default=0) < 0 or (0 not in shape and last >= len(storage)):
        raise ValueError(f"a tensor of shape {tuple(shape)} does not fit into its storage")
    return storage.as_strided(shape, strides, offset).clone()
