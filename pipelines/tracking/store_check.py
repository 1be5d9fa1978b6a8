"""Whether an MLflow store can work, asked before the work that would be logged to it, and within seconds.

MLflow itself tries a database that cannot be opened for 100 seconds, and passes on whatever its driver raises.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
import sqlalchemy
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from pipelines.tracking.store_address import StoreAddress

OUTAGE = (MlflowException, requests.RequestException, SQLAlchemyError, ImportError, OSError)
"""Errors of MLflow's client when its store or server is away, dies, or refuses."""
CONNECT_SECONDS = 5
MIN_FREE_BYTES = 16_000_000
"""A new database has 1 MB; a sweep's runs and report are a few more."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433, "http": 80, "https": 443}


@dataclass(frozen=True)
class StoreProblem:
    """Why a store does not work, and the remedy."""

    problem: str
    fix: str
    may_pass: bool = False
    """A server that is down may be up again when there is something to log."""

    def __str__(self) -> str:
        return f"{self.problem}; {self.fix}"


def store_problem(address: StoreAddress, *, thorough: bool = False) -> StoreProblem | None:
    """Look at the file, or see whether the server answers. Makes and changes nothing.

    `thorough` reads all of a SQLite file, too.
    """
    if address.database is not None:
        return _file_problem(address.database, address.setting, thorough)
    if address.is_server:
        parts = urlsplit(address.uri)
        proxy = requests.utils.select_proxy(address.uri, requests.utils.get_environ_proxies(address.uri))
        return None if proxy else _silence(address, parts.hostname, parts.port or _PORTS[parts.scheme])
    return _database_problem(address)


def problem_of(address: StoreAddress, question: Callable[[], object]) -> StoreProblem | None:
    """Ask MLflow's client; -> why the store does not answer, or None."""
    try:
        question()
    except OUTAGE as error:
        fix = f"correct {address.setting}, or see to the store"
        away = isinstance(error.__context__, requests.RequestException) or isinstance(error, requests.RequestException)
        return StoreProblem(f"MLflow at {address.shown} does not work: {reason(error)}", fix, may_pass=away)
    return None


def reason(error: BaseException) -> str:
    """One line of at most 300 characters, without the SQL of a database's error."""
    origin: object = error
    if isinstance(error.__cause__, SQLAlchemyError):  # MLflow's own error repeats it
        origin = error.__cause__
    if isinstance(origin, DBAPIError):
        origin = origin.orig or origin
    text = " ".join(str(origin).partition("[SQL:")[0].split())
    return text[:300] or type(error).__name__


def _file_problem(file: Path, setting: str, thorough: bool) -> StoreProblem | None:
    folder = next(parent for parent in file.parents if parent.exists())
    elsewhere = f"set {'tracking.uri' if setting == 'output' else setting} to a file elsewhere"
    if not folder.is_dir() or file.is_dir():
        wrong = f"{folder} is a file" if folder.is_file() else f"{file} is a folder"
        return StoreProblem(f"MLflow's database {file} cannot be opened: {wrong}", elsewhere)
    for path in (folder, *([file] if file.exists() else [])):  # SQLite writes a journal into the folder
        if not os.access(path, os.W_OK):
            return StoreProblem(f"MLflow's database {file} cannot be written: no right to write {path}", elsewhere)
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        problem = f"MLflow's database {file} cannot grow: {folder} has {free / 1e6:.0f} MB free"
        return StoreProblem(problem, f"free space there, or {elsewhere}")
    return _content_problem(file, elsewhere, thorough) if file.exists() else None


def _content_problem(file: Path, elsewhere: str, thorough: bool) -> StoreProblem | None:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=CONNECT_SECONDS)) as base:
            base.execute("SELECT count(*) FROM sqlite_master").fetchone()
            answer = base.execute("PRAGMA quick_check(1)").fetchone()[0] if thorough else "ok"
    except sqlite3.Error as error:
        if error.sqlite_errorname in ("SQLITE_BUSY", "SQLITE_LOCKED"):
            return None  # another process writes: the file is in order
        answer = str(error)
    if answer == "ok":
        return None
    fix = f"restore a backup, move it away (a new one is made), or {elsewhere}"
    return StoreProblem(f"MLflow's database {file} is damaged ({' '.join(answer.split())[:200]})", fix)


def _database_problem(address: StoreAddress) -> StoreProblem | None:
    url = sqlalchemy.make_url(address.uri)
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except ModuleNotFoundError as error:
        problem = f"{address.setting} {address.shown} needs the Python package {error.name}, which is not installed"
        package = "psycopg[binary]" if error.name == "psycopg" else error.name  # alone it needs a system library
        return StoreProblem(problem, f"pip install '{package}', or name another driver or store")
    except ImportError as error:
        problem = f"the driver of {address.setting} {address.shown} cannot be loaded ({reason(error)})"
        return StoreProblem(problem, "install it again with what it needs, or name another driver or store")
    except NoSuchModuleError:
        problem = f"{address.setting} {address.shown} names a driver that SQLAlchemy does not know"
        return StoreProblem(problem, "correct what stands before ://, as in postgresql+psycopg2://")
    silence = _silence(address, url.host, url.port or _PORTS[url.get_backend_name()])
    if silence is not None:
        return silence
    try:
        engine.connect().close()
    except OUTAGE as error:
        problem = f"the database {address.shown} refuses: {reason(error)}"
        return StoreProblem(problem, f"correct {address.setting} (user, password, name)")
    return None


def _silence(address: StoreAddress, host: str | None, port: int) -> StoreProblem | None:
    if host is None:  # a database by a local socket
        return None
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        why = getattr(error, "strerror", None) or str(error)
        problem = f"no MLflow store answers at {address.shown} ({why})"
        return StoreProblem(problem, f"start it or correct {address.setting}", may_pass=True)
    return None
