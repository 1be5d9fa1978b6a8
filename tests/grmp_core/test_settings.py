"""Ranges in the types of fields: they hold wherever a section is made, with the words of the message."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.errors import InputError
from grmp_core.settings import PathText, Settings, allowed, field_types


@dataclass(frozen=True, kw_only=True)
class Section(Settings):
    count: Annotated[int, Ge(1)] = 1
    share: Annotated[float, Ge(0), Le(1)] = 0.5
    part: Annotated[float, Gt(0), Lt(1)] = 0.5
    score: float | None = None
    mode: Literal["crops", "resize"] = "crops"
    rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1.0,)
    pair: tuple[str, str] = ("a", "b")
    path: PathText | None = None
    name: Annotated[str, MinLen(1)] = "x"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "Section.count must be a whole number, 1 or more, not 0"),
        ({"share": 1.01}, "Section.share must be a number, from 0 to 1, not 1.01"),
        ({"part": 1.0}, "Section.part must be a number, above 0 and below 1, not 1.0"),
        ({"score": math.inf}, "Section.score must be a number, not inf"),
        ({"share": math.nan}, "Section.share must be a number, from 0 to 1, not nan"),
        ({"mode": "official"}, "Section.mode must be one of crops, resize, not 'official'"),
        ({"rates": ()}, "Section.rates must be a list of one or more, each entry a number, above 0, not ()"),
        ({"rates": (1.0, 0.0)}, "Section.rates[1] must be a number, above 0, not 0.0"),
        ({"name": ""}, "Section.name must be text, at least one character, not ''"),
        ({"name": "a\0e9"}, "Section.name must be text, at least one character, not 'a\\x00e9'"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_the_constructor(values, message):
    with pytest.raises(InputError) as caught:
        Section(**values)
    assert str(caught.value) == message
    with pytest.raises(InputError):
        replace(Section(), **values)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_bounds_of_a_share_belong_to_it(share):
    if 0 <= share <= 1:
        assert Section(share=share).share == share
    else:
        with pytest.raises(InputError):
            Section(share=share)


def test_null_fits_where_the_type_has_it():
    assert Section(score=None, path=None).score is None


def test_types_in_words():
    words = {name: allowed(hint) for name, hint in field_types(Section).items()}
    assert words["pair"] == "a list of 2, each entry text"
    assert words["path"] == "text"
    assert words["score"] == "a number"
