"""Which Ray a command joins, known without importing Ray."""

from __future__ import annotations

import os


def cluster_address() -> str | None:
    """RAY_ADDRESS; null when it is unset, blank or `local`: Ray is then started on this machine."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address
