"""How many inputs may be left out before the whole is refused."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.datasets.rejects import refuse_too_many
from grmp_core.errors import InputError


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 100))
def test_a_share_in_percent_allows_exactly_its_count(total: int, rejected: int, percent: int) -> None:
    reasons = [f"{i}.png: damaged" for i in range(min(rejected, total))]
    if len(reasons) <= Fraction(percent, 100) * total:
        refuse_too_many(reasons, total, percent / 100, "pictures", "a.setting")
    else:
        with pytest.raises(InputError, match=f"^{len(reasons)} of {total} pictures cannot be used"):
            refuse_too_many(reasons, total, percent / 100, "pictures", "a.setting")


def test_the_message_names_setting_and_first_reason() -> None:
    with pytest.raises(InputError) as caught:
        refuse_too_many(["a.png: damaged", "b.png: gone"], 10, 0.1, "target images", "target.max_reject_fraction")
    assert str(caught.value) == (
        "2 of 10 target images cannot be used and 1 may be left out; repair them or raise target.max_reject_fraction; "
        "the first: a.png: damaged"
    )
