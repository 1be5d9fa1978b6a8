"""Storage by path or URI."""

from __future__ import annotations

from pathlib import Path

import pytest

from grmp_core.errors import InputError
from grmp_core.storage import locate


def test_files_and_folders(tmp_path):
    place = locate(tmp_path / "a")
    (place / "b" / "one.json").write_json({"x": 1})
    (place / "two.txt").write_bytes(b"hello")
    assert (place / "b" / "one.json").read_json() == {"x": 1}
    assert [f.name for f in place.list(recursive=True)] == ["one.json", "two.txt"]
    assert [f.name for f in place.list(".txt")] == ["two.txt"]
    assert locate(tmp_path / "missing").list() == []
    assert not locate(tmp_path / "missing").exists()


def test_a_file_uri_is_a_local_path(tmp_path):
    assert locate(f"file://{tmp_path}/x").uri == f"{tmp_path}/x"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    place = locate(tmp_path / "file")
    place.write_bytes(b"old")
    with pytest.raises(TypeError):
        place.write_bytes(object())  # type: ignore[arg-type]
    assert place.read_bytes() == b"old"


def test_a_place_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot make the folder"):
        (locate(tmp_path / "file") / "below").write_bytes(b"x")


@pytest.mark.parametrize("uri", ["ftp://host/x", "nonsense://x"])
def test_unknown_kinds_of_uri_are_refused(uri):
    with pytest.raises(InputError, match="use a local path"):
        locate(uri)


def test_a_place_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"Permission denied.*choose another output"):
        (locate(tmp_path) / "new" / "file").write_bytes(b"x")
