"""Files by path or URI (`/data/x`, `s3://bucket/x`, `gs://…`), all through pyarrow's file systems.

S3: the address comes from AWS_ENDPOINT_URL (any server that speaks S3) or the URI's `?endpoint_override=…&scheme=http`,
credentials from the AWS environment variables, profile, or instance role of each process, never from the URI. pyarrow
tries three times, with a second to connect: an unreachable server is an error after seconds.
"""

from __future__ import annotations

import json
import os
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pyarrow as pa
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs

from grmp_core.errors import InputError
from grmp_core.strict_json import json_text


@dataclass(frozen=True)
class Location:
    """A file or folder on some file system. `locate(place.uri)` gives the same place again."""

    filesystem: fs.FileSystem
    path: str
    uri: str

    def __truediv__(self, name: str) -> Location:
        return self._below(f"{self.path.rstrip('/')}/{name}")

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> Location:
        """The folder that this file or folder is in."""
        return self.at(self.path.rstrip("/").rpartition("/")[0])

    def at(self, path: str) -> Location:
        """Another place of the same file system, with the same options in its URI."""
        if self.is_local:
            return Location(self.filesystem, path, path)
        scheme, _, rest = self.uri.partition("://")
        _, mark, options = rest.partition("?")
        return Location(self.filesystem, path, f"{scheme}://{quote(path, safe=_SAFE)}{mark}{options}")

    def exists(self) -> bool:
        with self._explained("look for"):
            return self.filesystem.get_file_info(self.path).type != fs.FileType.NotFound

    def is_folder(self) -> bool:
        with self._explained("look for"):
            return self.filesystem.get_file_info(self.path).type == fs.FileType.Directory

    def reason_missing(self) -> str:
        """Why there is nothing here, and the fix: also an object store's missing bucket looks like a missing file."""
        if not self.is_local and not self.at(self.path.lstrip("/").partition("/")[0]).exists():
            return _REASONS["NO_SUCH_BUCKET"]
        return "there is nothing of that name; correct it"

    def glob(self, *, folders: bool = False) -> list[Location]:
        """Files, or also folders, that this path matches as a pattern (`*`, `**`, `[…]`), sorted.

        In a URI `?` is no wildcard: it begins the options.
        """
        with self._explained("list"):
            matches = ArrowFSWrapper(self.filesystem).glob(self.path, detail=True)
        return [self.at(path) for path, info in sorted(matches.items()) if folders or info["type"] == "file"]

    def list(self, suffix: str = "", recursive: bool = False) -> list[Location]:
        """Files below this folder whose names end with `suffix`, sorted; empty when the folder is missing."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        with self._explained("list"):
            entries = self.filesystem.get_file_info(selector)
        paths = sorted(info.path for info in entries if info.type == fs.FileType.File and info.path.endswith(suffix))
        return [self._below(path) for path in paths]

    def read_bytes(self) -> bytes:
        with self._explained("read"), self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    @contextmanager
    def open(self) -> Iterator[pa.NativeFile]:
        """The file, to be read at any place; errors as `read_bytes` has them."""
        with self._explained("read"), self.filesystem.open_input_file(self.path) as stream:
            yield stream

    def write_bytes(self, data: bytes | pa.Buffer) -> None:
        """Write all or nothing: a reader never sees half a file. InputError when the place cannot be written."""
        whole = pa.py_buffer(data)  # refuses what is no bytes before an object store's file is open, which would stay
        self.make_parent()
        # Object stores put whole objects. On a shared folder, process numbers of two nodes may be the same.
        temporary = f"{self.path}.{secrets.token_hex(4)}.tmp" if self.is_local else self.path
        with self._explained("write"):
            with self.filesystem.open_output_stream(temporary) as stream:
                stream.write(whole)
            if temporary != self.path:
                self.filesystem.move(temporary, self.path)

    def check_writable(self) -> None:
        """Write and delete a file beside this one. InputError where `write_bytes` would fail, hours before it does."""
        with self._explained("write"):
            if self.is_folder():
                raise InputError(f"cannot write {self.uri}: it is a folder; name a file")
        trial = self.at(f"{self.path}.{secrets.token_hex(4)}.tmp")
        trial.write_bytes(b"")
        trial.delete()

    def delete(self) -> None:
        """Delete this file."""
        with self._explained("delete"):
            self.filesystem.delete_file(self.path)

    def delete_folder(self) -> None:
        """Delete this folder with all that is in it; nothing happens where there is none."""
        with self._explained("delete"):
            if self.filesystem.get_file_info(self.path).type == fs.FileType.Directory:
                self.filesystem.delete_dir(self.path)

    def make_parent(self) -> None:
        if self.is_local:
            try:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
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
        """Numbers that are not finite are written as null: see `json_text`."""
        self.write_bytes((json_text(content, indent=2, sort_keys=True) + "\n").encode())

    def _below(self, path: str) -> Location:
        if self.is_local:
            return Location(self.filesystem, path, path)
        base, mark, options = self.uri.partition("?")
        rest = quote(path.removeprefix(self.path.rstrip("/")), safe=_SAFE)
        return Location(self.filesystem, path, f"{base.rstrip('/')}{rest}{mark}{options}")

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Refusals of a server, and failed writes, as one line; a missing file stays FileNotFoundError."""
        try:
            yield
        except FileNotFoundError as error:
            if not self.is_local or doing != "write":
                raise
            raise InputError(f"cannot write {self.uri}: its folder takes no files, or is gone") from error
        except OSError as error:
            if self.is_local and doing not in ("write", "look for"):
                raise
            reason = _local_reason(error, doing) if self.is_local else _remote_reason(error)
            raise InputError(f"cannot {doing} {self.uri}: {reason}") from error


def locate(uri: str | os.PathLike[str]) -> Location:
    """The place a path or URI names. Local paths become absolute.

    InputError for a URI of an unknown kind, and for a name that is not UTF-8, which pyarrow cannot open.
    """
    text = os.fspath(uri)
    if not is_utf8(text):
        raise InputError(f"cannot open '{readable(text)}': its name is not UTF-8; rename it")
    if "://" not in text:
        path = os.path.abspath(os.path.expanduser(text))
        return Location(fs.LocalFileSystem(), path, path)
    if text.startswith("s3://") and "@" in urlsplit(text).netloc:
        raise InputError(
            "an s3:// address with credentials in it would end up in manifests and logs; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    text = quote(text, safe=_AS_WRITTEN)
    try:
        if text.partition("://")[0] not in _SCHEMES:
            raise pa.ArrowInvalid("unknown kind of address")
        filesystem, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            f"cannot open '{text}' ({error}); use a local path, s3://bucket/key or gs://bucket/key"
        ) from error
    return Location(filesystem, path, path if isinstance(filesystem, fs.LocalFileSystem) else text)


def local_size_bytes(uri: str | None) -> int | None:
    """Of a local file, null for a place elsewhere or none: tells most other pictures under the same name apart."""
    return None if uri is None or "://" in uri else os.path.getsize(uri)


def is_utf8(name: str) -> bool:
    """Whether a file's name has no bytes that Python holds as lone surrogates."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def readable(name: str) -> str:
    """A file's name for tables and messages: bytes that are not UTF-8 become escapes such as `\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


_AS_WRITTEN = string.punctuation.translate(str.maketrans("", "", "#[]"))
"""Characters that a user's URI keeps: `[` and `]` are a pattern's and no URI's, `#` would cut off the rest."""

_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")

_SAFE = "/=:,+@"
"""Characters that a URI may keep as they are: none of them ends its path."""

_REFUSED = "the credentials are refused; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights they have there"
_REASONS = {
    "NO_SUCH_BUCKET": "there is no such bucket; create it or correct the name",
    "NETWORK_CONNECTION": "the server does not answer; check AWS_ENDPOINT_URL and the network",
    "REQUEST_TIMEOUT": "the server does not answer in time; check AWS_ENDPOINT_URL and the network",
    "INVALID_ACCESS_KEY_ID": _REFUSED,
    "INVALID_CLIENT_TOKEN_ID": _REFUSED,
    "SIGNATURE_DOES_NOT_MATCH": _REFUSED,
    "ACCESS_DENIED": _REFUSED,
}
"""The AWS SDK's names of what goes wrong, in a person's words."""


def _remote_reason(error: OSError) -> str:
    message = " ".join(str(error).split())
    for name, reason in _REASONS.items():
        if name in message:
            return reason
    return f"{message[:300]}; check the address, AWS_REGION, and the credentials"


def _local_reason(error: OSError, doing: str) -> str:
    fix = "free it or choose another output place" if doing == "write" else "correct the name, or the rights there"
    return f"{os.strerror(error.errno) if error.errno else error}; {fix}"
