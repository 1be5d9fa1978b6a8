"""`grmp`: starts the commands of the `pipelines` package that was installed beside this one.

The name `pipelines` is a common one. A `pipelines.py` on PYTHONPATH comes before installed packages, so the package is
loaded from its folder and not by its name. Workers of Ray get that folder first on their search path.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main() -> int:
    """Run `grmp` with the arguments of this process; -> exit code."""
    folder = Path(__file__).resolve().parents[1] / "pipelines"
    spec = importlib.util.spec_from_file_location("pipelines", folder / "__init__.py")
    if spec is None or spec.loader is None or not folder.is_dir():
        raise ImportError(f"{folder} is missing; install grmp-iqa again")
    sys.modules["pipelines"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return int(importlib.import_module("pipelines.cli").main())
