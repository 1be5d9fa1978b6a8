"""Where MLflow keeps runs and files: `tracking.uri`, else MLFLOW_TRACKING_URI, else a SQLite file in `output`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from grmp_core.errors import InputError
from grmp_core.storage import locate
from pipelines.configuration.schema import Config

_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")
_STORES = "an MLflow server (http://host:5000), a database (postgresql://user@host/name) or a file (sqlite:////folder/mlflow.db)"


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """An MLflow tracking store and registry."""

    uri: str
    """As MLflow takes it; a SQLite file's path is absolute, so that it means the same from every working directory."""
    shown: str
    """`uri` for messages: without a password."""
    setting: str
    """The setting or environment variable that names it, for messages."""
    database: Path | None = None
    """The file of a SQLite store."""
    artifacts: str | None = None
    """Where a new experiment keeps its files; null: where the server says."""

    @property
    def is_server(self) -> bool:
        return urlsplit(self.uri).scheme in _SERVERS


def store_address(config: Config) -> StoreAddress:
    """The store of a configuration. Nothing is contacted and no file is looked at.

    InputError for a kind of store that is not supported (folders, memory, Databricks, SageMaker), and when nothing
    names a store and `output` is remote.
    """
    output = locate(config.output)
    setting = "tracking.uri" if config.tracking.uri else "MLFLOW_TRACKING_URI"
    uri = (config.tracking.uri or os.environ.get(setting) or "").strip()
    if not uri:
        if not output.is_local:
            raise InputError(
                f"tracking.uri is not set and output {output.uri} is not a local folder; "
                "give the address of an MLflow server"
            )
        return _sqlite(Path(output.path, "mlflow.db"), "output")
    kind = urlsplit(uri).scheme.partition("+")[0]
    if kind in _SERVERS:
        _check_server(uri, setting)
        return StoreAddress(uri=uri, shown=_without_password(uri), setting=setting)
    if kind == "sqlite":
        return _sqlite(_database_of(uri, setting), setting)
    if kind in _DATABASES:
        files = Path(output.path, "mlartifacts").as_uri() if output.is_local else (output / "mlartifacts").uri
        shown = _url_of(uri, setting).render_as_string(hide_password=True)
        return StoreAddress(uri=uri, shown=shown, setting=setting, artifacts=files)
    if kind in ("", "file") and uri != "databricks":
        folder = unquote(urlsplit(uri).path) if kind else uri
        raise InputError(
            f"{setting} '{uri}' is a folder, in which MLflow no longer keeps runs; "
            f"use {sqlite_uri(Path(folder, 'mlflow.db'))}"
        )
    raise InputError(f"{setting} '{_without_password(uri)}' is no store that is supported here; give {_STORES}")


def sqlite_uri(file: Path) -> str:
    """The address of a SQLite file, whatever characters its path has: `?` would begin options, `%` an escape.

    Where one of them is escaped, the driver is named: of a plain sqlite:/// address MLflow makes the parent folder, but
    without resolving the escapes.
    """
    escaped = str(file).replace("%", "%25").replace("?", "%3F")
    return f"sqlite{'' if escaped == str(file) else '+pysqlite'}:///{escaped}"


def _sqlite(file: Path, setting: str) -> StoreAddress:
    file = file.expanduser().absolute()
    uri = sqlite_uri(file)
    artifacts = (file.parent / "mlartifacts").as_uri()
    return StoreAddress(uri=uri, shown=uri, setting=setting, database=file, artifacts=artifacts)


def _database_of(uri: str, setting: str) -> Path:
    url = _url_of(uri, setting)
    if url.query:
        path, _, rest = uri.partition("?")
        raise InputError(f"{setting} '{uri}': '?' begins options, which are not supported; write {path}%3F{rest}")
    if not url.database or url.database == ":memory:":
        raise InputError(f"{setting} '{uri}' would keep runs in memory only; name a file, as in sqlite:///mlflow.db")
    return Path(url.database)


def _check_server(uri: str, setting: str) -> None:
    try:
        named = urlsplit(uri).hostname is not None and urlsplit(uri).port != 0
    except ValueError:  # a port that is no number
        named = False
    if not named:
        raise InputError(f"{setting} '{_without_password(uri)}' is no address of a server; write http://host:5000")


def _url_of(uri: str, setting: str) -> URL:
    try:
        return make_url(uri)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise InputError(f"{setting} is no address of a database; write postgresql://user@host:5432/name") from error


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(parts.username or '')}:***@{host}").geturl()
