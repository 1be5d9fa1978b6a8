"""Identities: what makes a result another one, what does not, and how that is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, make_dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.errors import InputError
from grmp_core.identity import VERSION, Identity, check_version, digest_of, listed


@dataclass(frozen=True, kw_only=True)
class Inner:
    scope: str = "tensor"
    strength: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    lr: float = 0.001
    shots: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=lambda: Inner(strength=1.0))


def recorded(identity: Identity) -> dict:
    """The record as it comes back from a file."""
    return json.loads(json.dumps(identity.record()))


def test_fields_become_dotted_names_with_plain_values():
    identity = Identity.of({"seed": 3, "adapt": Outer(lr=0.5)})
    assert recorded(identity) == {
        "version": VERSION,
        "settings": {
            "seed": 3,
            "adapt.lr": 0.5,
            "adapt.shots": [1, 2],
            "adapt.inner.scope": "tensor",
            "adapt.inner.strength": 1.0,
        },
    }
    assert identity.defaults["adapt.inner.strength"] == 1.0, "the owner's default, not the inner class's"
    assert "seed" not in identity.defaults
    assert identity.matches(recorded(identity))


def test_what_decides_nothing_is_left_out():
    strengths = [
        Identity.of({"adapt": Outer(inner=Inner(strength=s))}, without=("adapt.inner.strength",)) for s in (1, 2)
    ]
    assert strengths[0].digest == strengths[1].digest
    assert strengths[0].matches(recorded(strengths[1]))


def test_differences_are_named_with_both_values():
    before, now = Identity.of({"a": Outer(lr=0.01), "gone": 1}), Identity.of({"a": Outer(lr=0.02), "new": "x"})
    assert now.changes_from(recorded(before)) == [
        "a.lr was 0.01 and is 0.02",
        'new was not recorded and is "x"',
        "gone was 1 and is no longer a setting",
    ]
    assert not now.matches(recorded(before))
    assert before.digest != now.digest
    assert listed([str(i) for i in range(8)]) == "0; 1; 2; 3; 4; and 3 more"
    assert listed(["a", "b"]) == "a; b"


@pytest.mark.parametrize("default", [1.0, (1,), None])
def test_a_setting_that_is_added_with_a_default_changes_nothing_until_it_is_set(default):
    wider = make_dataclass("Wider", [("extra", object, default)], bases=(Outer,), frozen=True, kw_only=True)
    before = Identity.of({"adapt": Outer(lr=0.5)})
    assert Identity.of({"adapt": wider(lr=0.5)}).matches(recorded(before))
    assert Identity.of({"adapt": wider(lr=0.5)}).digest == before.digest
    changed = Identity.of({"adapt": wider(lr=0.5, extra=7)})
    assert changed.changes_from(recorded(before)) == [
        f"adapt.extra was {json.dumps(default)} and is 7",
    ]
    assert changed.digest != before.digest


def test_a_default_that_changes_is_a_difference():
    """The same name of a file, but not the same result: hence the record holds all values."""
    later = make_dataclass("Later", [("lr", float, 0.3)], bases=(Outer,), frozen=True, kw_only=True)
    before, now = Identity.of({"adapt": Outer()}), Identity.of({"adapt": later()})
    assert now.digest == before.digest
    assert now.changes_from(recorded(before)) == ["adapt.lr was 0.001 and is 0.3"]


def test_records_of_another_kind_or_version_match_nothing_and_are_refused():
    identity = Identity.of({"seed": 0})
    for record in ("0a1b2c3d4e", None, {"version": VERSION + 1, "settings": {"seed": 0}}):
        assert not identity.matches(record)
    check_version(recorded(identity), "here")
    for record in ({"version": VERSION + 1, "settings": {}}, {"identity": "0a1b"}):
        with pytest.raises(InputError, match="here has identity format"):
            check_version(record, "here")


def test_an_extended_identity_has_both():
    identity = Identity.of({"adapt": Outer()}).extended({"samples": 3})
    assert identity.settings["samples"] == 3
    assert identity.defaults["adapt.lr"] == 0.001


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False) | st.none(), max_size=4))
def test_digests_do_not_depend_on_order_and_records_survive_files(settings):
    identity, turned = Identity.of(settings), Identity.of(dict(reversed(settings.items())))
    assert identity.digest == turned.digest
    assert identity.matches(recorded(turned))


def test_digests_keep_parts_apart():
    assert digest_of(b"ab", b"c") != digest_of(b"a", b"bc")
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
