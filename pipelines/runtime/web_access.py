"""Who may reach a server of this package: loopback addresses, host names, and the token of all other addresses."""

from __future__ import annotations

import ipaddress
import os
import secrets

from grmp_core.errors import InputError

MIN_TOKEN = 16
"""Letters of a token, at least."""


def is_loopback_address(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than `localhost` counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_address(host: str) -> str:
    """The host as it stands in a web address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def names_of(host: str) -> frozenset[str]:
    """Names that a request to a loopback address may call its server by."""
    return frozenset({in_address(host).lower(), "localhost", "127.0.0.1", "[::1]"})


def is_called(host_header: str, names: frozenset[str]) -> bool:
    """Whether a Host header has one of the names, with any port. A page of another site, whose name is made to point to
    this machine, has none of them."""
    bare, colon, port = host_header.rpartition(":")
    return (bare if colon and port.isdigit() else host_header).lower() in names


def is_token(given: str, token: str) -> bool:
    """Comparison that takes as long for a near miss as for any other."""
    return secrets.compare_digest(given.encode(), token.encode())


def token_of(file: str | None, setting: str) -> str:
    """The token in a file, which is made where it is missing; without a file a new one.

    Args:
        setting: name of the setting that gave the file, for messages.

    InputError for a file that cannot be used, or a token that is too short.
    """
    if file is None:
        return secrets.token_urlsafe(24)
    try:
        token = _read(file)
        if not token:
            with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as stream:
                token = secrets.token_urlsafe(24)
                stream.write(f"{token}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{setting} {file}: cannot be used: {error}") from error
    if len(token) < MIN_TOKEN:
        raise InputError(
            f"{setting} {file}: the token has {len(token)} letters; use {MIN_TOKEN} or more, or delete the file"
        )
    return token


def _read(file: str) -> str:
    """Empty where there is no file. A mounted secret can be read only."""
    if not os.path.exists(file):
        return ""
    with open(file, encoding="ascii") as stream:
        return stream.read().strip()
