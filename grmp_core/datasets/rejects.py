"""The rule for inputs that cannot be used: each is listed with its reason, and too many of them refuse the whole."""

import math
from collections.abc import Sequence

from grmp_core.errors import InputError


def refuse_too_many(reasons: Sequence[str], total: int, max_reject_fraction: float, what: str, setting: str) -> None:
    """InputError when more than `max_reject_fraction`, in [0, 1], of `total` inputs are left out.

    Args:
        reasons: one for each input that is left out; it names the input.
        what: the inputs, in the plural, such as "label rows".
        setting: name of the setting of `max_reject_fraction`, for the message.
    """
    most = math.floor(max_reject_fraction * total + 1e-9)  # .29 x 100 is 28.999…
    if len(reasons) > most:
        raise InputError(
            f"{len(reasons)} of {total} {what} cannot be used and {most} may be left out; repair them "
            f"or raise {setting}; the first: {reasons[0]}"
        )
