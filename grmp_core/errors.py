"""The one exception that means "the input is wrong, not the program"."""


class InputError(ValueError):
    """Bad input or configuration. The message is one line: what is wrong, where, and how to fix it.

    The command line prints it as it is and exits with 2; anything else is a failure (exit 1).
    """


class NonFiniteLossError(RuntimeError):
    """A loss or gradient became NaN or infinite; raised before anything was moved by it."""
