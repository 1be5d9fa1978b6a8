"""YAML by the rules of its version 1.2: numbers, truth values, text, and keys that are given twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.errors import InputError
from pipelines.configuration.yaml_reading import Scalar, parse_value, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-3", -3),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e-4", 1e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("+2.5E3", 2500.0),
        ("-.inf", float("-inf")),
        ("true", True),
        ("FALSE", False),
    ],
)
def test_numbers_and_truth_values(text, value):
    parsed = parse_value(text)
    assert (parsed.value, type(parsed.value)) == (value, type(value))
    assert parsed.text == text


@pytest.mark.parametrize(
    "text", ["yes", "No", "on", "OFF", "y", "010", "-07", "3_5", "1_0.5", "1:30", "2026-01-01", "="]
)
def test_what_only_yaml_1_1_converts_is_text(text):
    assert parse_value(text) == text


@pytest.mark.parametrize("text", ["", "~", "null", "NULL"])
def test_null(text):
    assert parse_value(text) is None


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_of_json_are_the_same_numbers(number):
    assert parse_value(json.dumps(number)).value == number


@given(st.lists(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")))))
def test_texts_of_json_are_the_same_texts(texts):
    assert parse_value(json.dumps(texts, ensure_ascii=False)) == texts


def test_a_key_given_twice_is_named_with_both_lines(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("target:\n  path: a.csv\nseed: 1\ntarget:\n  score_min: 0\n")
    with pytest.raises(InputError, match=r"c\.yaml, line 4: 'target' is given twice, in lines 1 and 4"):
        read_yaml(file)
    file.write_text("sweep:\n  shots: [1]\n  lambdas: [0]\n  shots: [2]\n")
    with pytest.raises(InputError, match=r"'shots' is given twice, in lines 2 and 4"):
        read_yaml(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x {b: *x}", "recursive"),
        ("a: !!set {b}", "the tag tag:yaml.org,2002:set is not supported"),
        ("a: !!python/object:os.system {}", "is not supported"),
        ("a: !!int 3_5", "'3_5' is not of the type !!int"),
        ("? [a]\n: b", "a key must be text"),
        ("a: 1\n---\nb: 2", "but found another document"),
        ("a: [1", "expected"),
        ("a: {b: 1, b: 2}", "'b' is given twice"),
    ],
)
def test_yaml_that_is_no_configuration_is_refused_in_one_line(tmp_path, text, problem):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml, line \d+: ") as caught:
        read_yaml(tmp_path / "c.yaml")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_are_text_and_aliases_work(tmp_path):
    (tmp_path / "c.yaml").write_text("5: &five five\ntrue: *five\n")
    assert read_yaml(tmp_path / "c.yaml") == {"5": "five", "true": "five"}


@pytest.mark.parametrize("text", ["3 # take two", "[1, 2] # all", "a #b"])
def test_a_comment_in_a_value_is_refused(text):
    with pytest.raises(ValueError, match="begins a comment"):
        parse_value(text)
    assert parse_value("a#b") == "a#b"
    assert parse_value("'a #b'") == "a #b"
    assert parse_value("[1, 2]  ") == [Scalar(1, "1"), Scalar(2, "2")]
