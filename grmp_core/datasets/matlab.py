"""Columns of labels in MATLAB 5 files."""

from __future__ import annotations

import io

import numpy as np

from grmp_core.errors import InputError
from grmp_core.storage import Location


def read_variable(file: Location, variable: str) -> list[object]:
    """The entries of a numeric or cell array, in MATLAB's order of a row or a column.

    Raises:
        InputError: no such file, not a MATLAB 5 file, or no such variable in it.
    """
    from scipy.io import loadmat  # takes long, and only .mat files need it
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(io.BytesIO(file.read_bytes()), variable_names=[variable])
    except FileNotFoundError as error:
        raise InputError(f"{file.uri}: no such label file") from error
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise InputError(f"{file.uri}: not a MATLAB 5 file: {' '.join(str(error).split())}") from error
    if variable not in content:
        raise InputError(f"{file.uri}: holds no variable {variable!r}")
    return [np.asarray(cell).item() if np.asarray(cell).size == 1 else str(cell) for cell in content[variable].ravel()]
