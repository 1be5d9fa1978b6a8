"""Files by path or URI (`/data/x`, `s3://bucket/x`, `gs://…`), all through pyarrow's file systems."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from grmp_core.errors import InputError


@dataclass(frozen=True)
class Location:
    """A file or folder on some file system."""

    filesystem: fs.FileSystem
    path: str
    uri: str

    def __truediv__(self, name: str) -> Location:
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.uri.rstrip('/')}/{name}")

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    def exists(self) -> bool:
        return self.filesystem.get_file_info(self.path).type != fs.FileType.NotFound

    def list(self, suffix: str = "", recursive: bool = False) -> list[Location]:
        """Files below this folder whose names end with `suffix`, sorted; empty when the folder is missing."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        paths = sorted(
            info.path
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.File and info.path.endswith(suffix)
        )
        return [Location(self.filesystem, path, self._uri_of(path)) for path in paths]

    def read_bytes(self) -> bytes:
        with self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    def write_bytes(self, data: bytes | pa.Buffer) -> None:
        """Write all or nothing: a reader never sees half a file. InputError when the place cannot be written."""
        self.make_parent()
        temporary = f"{self.path}.{os.getpid()}.tmp" if self.is_local else self.path  # object stores put whole objects
        try:
            with self.filesystem.open_output_stream(temporary) as stream:
                stream.write(data)
            if temporary != self.path:
                self.filesystem.move(temporary, self.path)
        except PermissionError as error:
            raise InputError(f"no permission to write {self.uri}; choose another output place") from error

    def make_parent(self) -> None:
        if self.is_local:
            try:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            except (PermissionError, FileExistsError, NotADirectoryError, OSError) as error:
                reason = error.strerror or type(error).__name__
                raise InputError(
                    f"cannot make the folder {Path(self.path).parent} ({reason}); choose another output place"
                ) from error

    def read_json(self) -> dict[str, Any]:
        """A JSON object. InputError when the file holds something else."""
        try:
            content = json.loads(self.read_bytes())
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"{self.uri} is not JSON ({error}); it was damaged or is another kind of file") from error
        if not isinstance(content, dict):
            raise InputError(f"{self.uri} holds no JSON object; it is another kind of file")
        return content

    def write_json(self, content: dict[str, Any]) -> None:
        self.write_bytes((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())

    def _uri_of(self, path: str) -> str:
        return path if self.is_local else self.uri[: len(self.uri) - len(self.path)] + path


def locate(uri: str | os.PathLike[str]) -> Location:
    """The place a path or URI names. Local paths become absolute. InputError for a URI of an unknown kind."""
    text = os.fspath(uri)
    if "://" not in text:
        path = os.path.abspath(os.path.expanduser(text))
        return Location(fs.LocalFileSystem(), path, path)
    try:
        filesystem, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            f"cannot open '{text}' ({error}); use a local path, s3://bucket/key or gs://bucket/key"
        ) from error
    return Location(filesystem, path, path if isinstance(filesystem, fs.LocalFileSystem) else text)
