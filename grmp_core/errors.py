"""The exceptions that mean "the input is wrong, not the program"."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input or configuration. The message is one line: what is wrong, where, and how to fix it.

    The command line prints it as it is and exits with 2; anything else is a failure (exit 1).
    """


class ImageError(InputError):
    """One image cannot be used. `reason` is the cause without the image's name, short enough for a table cell.

    `transient`: the file itself may be good; it could not be read now, or memory ran out.
    """

    def __init__(self, reason: str, where: str = "image", transient: bool = False) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason
        self.where = where
        self.transient = transient

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, bool]]:
        # Ray sends exceptions between processes; the default would rebuild it from the joined message.
        return type(self), (self.reason, self.where, self.transient)


class NonFiniteLossError(RuntimeError):
    """A loss or gradient became NaN or infinite; raised before anything was moved by it."""
