"""Storage by path or URI; S3 against a real server over HTTP."""

from __future__ import annotations

import json
import math
import os
import pickle
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.errors import InputError
from grmp_core.storage import is_utf8, locate, readable
from grmp_core.strict_json import json_text
from tests.s3_server import s3_server

BUCKET = "storage"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with s3_server(BUCKET) as variables:
        yield variables


@pytest.fixture
def s3(environment, monkeypatch) -> str:
    """The environment of a user of the server; -> its address."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment["AWS_ENDPOINT_URL"]


def test_files_and_folders(tmp_path):
    place = locate(tmp_path / "a")
    (place / "b" / "one.json").write_json({"x": 1})
    (place / "two.txt").write_bytes(b"hello")
    assert (place / "b" / "one.json").read_json() == {"x": 1}
    assert [f.name for f in place.list(recursive=True)] == ["one.json", "two.txt"]
    assert [f.name for f in place.list(".txt")] == ["two.txt"]
    assert locate(tmp_path / "missing").list() == []
    assert not locate(tmp_path / "missing").exists()
    (place / "two.txt").delete()
    assert not (place / "two.txt").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_json_is_strict_and_has_null_where_a_number_is_not_finite(content):
    def nulled(value):
        if isinstance(value, list):
            return [nulled(inner) for inner in value]
        if isinstance(value, dict):
            return {key: nulled(inner) for key, inner in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    assert json.loads(json_text(content), parse_constant=pytest.fail) == nulled(content)


def test_json_files_hold_null_for_what_is_not_finite(tmp_path):
    file = locate(tmp_path / "a.json")
    file.write_json({"a": math.nan, "b": (np.float64("inf"), 1.5), "c": [{"d": -math.inf}]})
    assert "NaN" not in (tmp_path / "a.json").read_text()
    assert "Infinity" not in (tmp_path / "a.json").read_text()
    assert file.read_json() == {"a": None, "b": [None, 1.5], "c": [{"d": None}]}


def test_files_and_folders_on_s3(s3):
    place = locate(f"s3://{BUCKET}/a/")
    (place / "b" / "one.json").write_json({"x": 1})
    (place / "two words é#%.txt").write_bytes(b"hello")
    assert (place / "b" / "one.json").read_json() == {"x": 1}
    files = place.list(recursive=True)
    assert [f.name for f in files] == ["one.json", "two words é#%.txt"]
    assert [locate(f.uri).path for f in files] == [f.path for f in files]
    assert locate(files[1].uri).read_bytes() == b"hello"
    assert locate(f"s3://{BUCKET}/missing").list() == []
    assert not locate(f"s3://{BUCKET}/missing").exists()
    with pytest.raises(FileNotFoundError):
        locate(f"s3://{BUCKET}/missing").read_bytes()
    for file in files:
        file.delete()
    assert place.list(recursive=True) == []


def test_an_address_in_the_uri_stays_with_what_is_below(s3, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = f"?endpoint_override={s3.removeprefix('http://')}&scheme=http&region=us-east-1"
    file = locate(f"s3://{BUCKET}/options{options}") / "x" / "y.txt"
    file.write_bytes(b"found")
    assert file.uri == f"s3://{BUCKET}/options/x/y.txt{options}"
    assert locate(file.uri).read_bytes() == b"found"
    assert locate(f"s3://{BUCKET}/options{options}").list(recursive=True)[0].uri == file.uri


def test_a_place_travels_to_another_process(s3):
    place = locate(f"s3://{BUCKET}/travels")
    place.write_bytes(b"there")
    assert pickle.loads(pickle.dumps(place)).read_bytes() == b"there"  # noqa: S301


def test_a_missing_bucket_is_one_line(s3):
    with pytest.raises(InputError, match=r"^cannot write s3://nowhere/x: there is no such bucket; create it [^\n]*$"):
        locate("s3://nowhere/x").write_bytes(b"x")
    assert not locate("s3://nowhere/x").exists()


def test_refused_credentials_are_one_line(s3):
    with refusing(s3):
        for attempt in (lambda f: f.write_bytes(b"x"), lambda f: f.exists(), lambda f: f.list()):
            with pytest.raises(InputError, match=r"s3://storage/x: the credentials are refused; check AWS_[^\n]*$"):
                attempt(locate(f"s3://{BUCKET}/x"))


def test_an_unreachable_server_is_one_line_within_seconds(s3, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(InputError, match=r"s3://storage/x: the server does not answer; check AWS_ENDPOINT_URL"):
            locate(f"s3://{BUCKET}/x").write_bytes(b"x")
    assert time.monotonic() - began < 20


def test_credentials_in_the_address_are_refused():
    with pytest.raises(InputError, match="AWS_SECRET_ACCESS_KEY instead"):
        locate("s3://someone:secret@bucket/x")


def test_a_file_uri_is_a_local_path(tmp_path):
    assert locate(f"file://{tmp_path}/x").uri == f"{tmp_path}/x"


@pytest.mark.parametrize("remote", [False, True])
def test_a_failed_write_leaves_the_old_file(tmp_path, request, remote):
    if remote:
        request.getfixturevalue("s3")
    place = locate(f"s3://{BUCKET}/file" if remote else tmp_path / "file")
    place.write_bytes(b"old")
    with pytest.raises(TypeError):
        place.write_bytes(object())  # type: ignore[arg-type]
    assert place.read_bytes() == b"old"


def test_a_place_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot make the folder"):
        (locate(tmp_path / "file") / "below").write_bytes(b"x")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that takes no files, whoever asks")
def test_a_folder_that_takes_no_files_is_refused():
    with pytest.raises(InputError, match=r"cannot write /proc/scores\.csv"):
        locate("/proc/scores.csv").check_writable()


def test_a_folder_is_no_file_to_write(tmp_path):
    with pytest.raises(InputError, match=r"^cannot write .*; free it or choose another output place$"):
        locate(tmp_path).write_bytes(b"x")


@pytest.mark.parametrize("uri", ["ftp://host/x", "nonsense://x", "https://host/x.png", "hf://datasets/a/b/x.png"])
def test_unknown_kinds_of_uri_are_refused(uri):
    with pytest.raises(InputError, match="use a local path"):
        locate(uri)


def test_a_place_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"Permission denied.*choose another output"):
        (locate(tmp_path) / "new" / "file").write_bytes(b"x")


@contextmanager
def refusing(server: str) -> Iterator[None]:
    """The server knows no keys and wants one, for the time."""
    _actions_without_keys(server, "0")
    try:
        yield
    finally:
        _actions_without_keys(server, "inf")


def _actions_without_keys(server: str, number: str) -> None:
    address = f"{server}/moto-api/reset-auth"
    request = urllib.request.Request(address, number.encode(), {"Content-Type": "text/plain"}, method="POST")  # noqa: S310
    urllib.request.urlopen(request).read()  # noqa: S310


def test_places_beside_and_above_keep_the_options_of_their_uri():
    """Without a server: only addresses are made."""
    place = locate("s3://b/a b/scores.parquet?region=eu-north-1&endpoint_override=localhost:9000&scheme=http")
    parts = place.at(f"{place.path}.parts-1")
    assert parts.path == "b/a b/scores.parquet.parts-1"
    assert locate(parts.uri).path == parts.path
    assert parts.uri.endswith("?region=eu-north-1&endpoint_override=localhost:9000&scheme=http")
    assert place.parent.path == "b/a b"
    assert locate(place.parent.uri).path == "b/a b"


def test_local_places_beside_and_above(tmp_path):
    place = locate(tmp_path / "x.csv")
    assert place.parent.uri == str(tmp_path)
    assert place.at(str(tmp_path / "y")).uri == str(tmp_path / "y")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.png", ["1.png", "[x].png", "é .png"]),
        ("**/*.png", ["1.png", "[x].png", "sub/2.png", "é .png"]),
        ("[12].png", ["1.png"]),
        ("[[]x].png", ["[x].png"]),
        ("*/2.png", ["sub/2.png"]),
        ("none*", []),
        ("s*", []),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_a_pattern_names_files(tmp_path, request, remote, pattern, names):
    if remote:
        request.getfixturevalue("s3")
    folder = locate(f"s3://{BUCKET}/glob" if remote else tmp_path)
    for name in ("1.png", "é .png", "[x].png", "sub/2.png", "sub/3.txt"):
        (folder / name).write_bytes(name.encode())
    matches = locate(f"{folder.uri}/{pattern}").glob()
    assert [match.read_bytes().decode() for match in matches] == names
    assert [locate(match.uri).path for match in matches] == [match.path for match in matches]
    assert [match.name for match in locate(f"{folder.uri}/s*").glob(folders=True)] == ["sub"]


def test_why_nothing_is_there(s3, tmp_path):
    assert "there is no such bucket" in locate("s3://nowhere/x").reason_missing()
    assert "nothing of that name" in locate(f"s3://{BUCKET}/nothing").reason_missing()
    assert "nothing of that name" in locate(tmp_path / "nothing").reason_missing()


def test_an_output_is_tried_and_nothing_stays(s3, tmp_path):
    for place in (locate(tmp_path / "new" / "scores.csv"), locate(f"s3://{BUCKET}/tried/scores.csv")):
        place.check_writable()
        assert place.parent.list() == []


@pytest.mark.parametrize("name", ["file/below.csv", "file/two/below.csv", "folder", f"{300 * 'x'}.csv"])
def test_an_output_that_cannot_be_written_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"^cannot [^\n]*$"):
        locate(tmp_path / name).check_writable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_an_output_in_a_missing_bucket_is_refused(s3):
    with pytest.raises(InputError, match="there is no such bucket"):
        locate("s3://nowhere/scores.csv").check_writable()


def test_a_name_that_is_not_utf8_is_refused_where_pyarrow_cannot_open_it(tmp_path):
    name = os.fsdecode(b"caf\xe9.csv")
    assert not is_utf8(name)
    assert is_utf8("caf\u00e9 \U0001f600.csv")
    assert readable(name) == "caf\\xe9.csv"
    with pytest.raises(InputError, match=r"caf\\xe9\.csv': its name is not UTF-8; rename it"):
        locate(tmp_path / name)
