"""Submit a workload to a Ray cluster, follow its log, and exit as the job does.

    python -m cluster.submit --address http://HEAD:8265 --token-file token -- \\
        python -m pipelines.sweep --config ray_config.yaml

Beyond `ray job submit`: leaves out what changes while it is being uploaded (a log, a database: the upload would break),
hands on where MLflow and S3 are, tells a wrong token from a missing one, and passes on the job's exit code 2.
Exit codes: 0 the job succeeded, 2 bad input (of this command or of the job), 1 failure, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.upload import EXCLUDES, gitignore_pattern, special_files
from grmp_core.errors import InputError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

T = TypeVar("T")
OK, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
DEFAULT_TOKEN_FILE = "~/.ray/auth_token"  # noqa: S105  # a path; Ray's own default
HANDED_ON = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables a job gets from here without being asked: where things are, never a secret."""
PATIENCE_S = 60
"""How long a head may not answer, or answer with errors, before following its job is given up."""


class LostConnectionError(RuntimeError):
    """The head no longer answers. One line, like InputError; the job may go on."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One job, and the cluster it is for."""

    address: str
    token: str | None
    command: tuple[str, ...]
    working_dir: str | None
    """Folder to upload; null: the cluster's nodes have the package and all files."""
    excludes: tuple[str, ...]
    environment: Mapping[str, str]

    def runtime_env(self) -> dict[str, Any]:
        files = {"working_dir": self.working_dir, "excludes": list(self.excludes)} if self.working_dir else {}
        return {**files, "env_vars": dict(self.environment)}


def main(arguments: Sequence[str] | None = None) -> int:
    """-> exit code."""
    own, command = split_at_dashes(sys.argv[1:] if arguments is None else arguments)
    options = options_parser().parse_args(own)
    try:
        request = request_of(options, command, os.environ)
        client = connect(request)
        job = submit(client, request)
        _say(f"submitted {job} to {request.address}")
        if options.no_wait:
            print(job)
            return OK
        return follow(client, job, request.address)
    except InputError as error:
        _say(str(error))
        return BAD_INPUT
    except LostConnectionError as error:
        _say(str(error))
        return FAILURE


def split_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after the first `--`."""
    at = list(arguments).index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])


def request_of(options: argparse.Namespace, command: Sequence[str], environment: Mapping[str, str]) -> Request:
    """The options, checked. Raises InputError."""
    if not command:
        raise InputError("nothing to run; put the command after --, as in `-- python -m pipelines.demo`")
    address = options.address or environment.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    if not address.startswith(("http://", "https://")):
        raise InputError(f"address {address} is no URL; give the dashboard's, as in {DEFAULT_ADDRESS}")
    working_dir = None if options.no_working_dir else options.working_dir
    if working_dir is not None and not Path(working_dir).is_dir():
        raise InputError(f"working dir {working_dir} is no folder; correct --working-dir, or use --no-working-dir")
    special = special_files(Path(working_dir), (*EXCLUDES, *options.exclude)) if working_dir is not None else []
    if special:
        _say(f"left out of the upload, since no ordinary files: {', '.join(special)}")
    handed_on = {name: environment[name] for name in HANDED_ON if name in environment}
    return Request(
        address=address.rstrip("/"),
        token=find_token(options.token_file, environment),
        command=tuple(command),
        working_dir=working_dir,
        excludes=(*EXCLUDES, *options.exclude, *(gitignore_pattern(path) for path in special)),
        environment={**handed_on, **dict(_variable(text, environment) for text in options.env)},
    )


def find_token(token_file: str | None, environment: Mapping[str, str]) -> str | None:
    """The token, looked for where Ray looks: the given file, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    if not token_file and environment.get("RAY_AUTH_TOKEN"):
        return environment["RAY_AUTH_TOKEN"]
    named = token_file or environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or DEFAULT_TOKEN_FILE).expanduser()
    if not named and not path.exists():
        return None
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"token file {path} cannot be read ({error}); correct --token-file") from error
    if not token:
        raise InputError(f"token file {path} is empty; write the cluster's token into it")
    return token


def connect(request: Request) -> JobSubmissionClient:
    """A client of a server that answers and accepts the token. Raises InputError."""
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ["RAY_API_SERVER_ADDRESS"] = request.address  # Ray prefers this variable to the argument
    headers = {"Authorization": f"Bearer {request.token}"} if request.token else {}
    return _asked(request, lambda: JobSubmissionClient(request.address, headers=headers))


def submit(client: JobSubmissionClient, request: Request) -> str:
    """Upload the working dir, start the job; -> its id. Raises InputError."""
    runtime_env = request.runtime_env()
    try:
        return _asked(
            request, lambda: client.submit_job(entrypoint=shlex.join(request.command), runtime_env=runtime_env)
        )
    except InputError:
        raise
    except (ValueError, OSError) as error:  # what Ray says about a folder it cannot pack
        raise InputError(f"working dir {request.working_dir}: {_one_line(error)}; --exclude more of it") from error


def follow(client: JobSubmissionClient, job: str, address: str) -> int:
    """Print the job's log until the job has ended; -> exit code. Ctrl-C ends the following, not the job."""
    try:
        asyncio.run(_print_log(client, job))
        details = _wait(client, job, address)
    except KeyboardInterrupt:
        _say(f"no longer following {job}, which goes on; end it with `ray job stop --address {address} {job}`")
        return INTERRUPTED
    return exit_code(details)


def exit_code(details: JobDetails) -> int:
    """0, 1 or 2, as the workload itself would have ended; says why where the log cannot have said it."""
    if details.status == "SUCCEEDED":
        return OK
    if details.driver_exit_code == BAD_INPUT:
        return BAD_INPUT
    _say(f"job {details.status}: {_one_line(details.message or 'no reason given')}")
    return FAILURE


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    """The log as it grows. A connection that breaks ends this early; the job's end is asked for separately."""
    import aiohttp

    try:
        async for text in client.tail_job_logs(job):
            print(text, end="", flush=True)
    except (aiohttp.ClientError, RuntimeError) as error:
        _say(f"cannot follow the log any more ({_one_line(error)}); waiting for the end of {job}")


def _wait(client: JobSubmissionClient, job: str, address: str) -> JobDetails:
    import requests
    from ray.exceptions import AuthenticationError

    answered = time.monotonic()
    while True:
        try:
            details = client.get_job_info(job)
            if details.status.is_terminal():
                return details
            answered = time.monotonic()
        except (requests.RequestException, ConnectionError, RuntimeError, AuthenticationError) as error:
            # Ray's client raises RuntimeError for an answer with another status than 200
            if time.monotonic() - answered > PATIENCE_S:
                raise LostConnectionError(
                    f"{address} has not told the state of {job} for {PATIENCE_S} s ({_one_line(error)}); once it "
                    f"does, see `ray job status --address {address} {job}`"
                ) from error
        time.sleep(1)


def _asked(request: Request, question: Callable[[], T]) -> T:
    """The answer of the server, its refusals as InputError."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        return question()
    except AuthenticationError as error:
        if request.token is None:
            raise InputError(
                f"{request.address} wants a token and there is none; give --token-file or set RAY_AUTH_TOKEN_PATH"
            ) from error
        raise InputError(
            f"{request.address} refuses the token; give the cluster's present one by --token-file"
        ) from error
    except (requests.ConnectionError, requests.Timeout, ConnectionError) as error:
        raise InputError(
            f"no server answers at {request.address}; correct --address, or open a way to it (port-forward, tunnel)"
        ) from error
    except requests.RequestException as error:
        raise InputError(f"{request.address} is no Ray dashboard ({_one_line(error)}); correct --address") from error
    except RuntimeError as error:
        raise InputError(f"{request.address} refuses: {_one_line(error)}") from error


def _variable(text: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """`NAME=VALUE`, or `NAME` for its value here (which keeps a secret out of the shell's history)."""
    name, separator, value = text.partition("=")
    if not name.isidentifier():
        raise InputError(f"--env {text}: write NAME=VALUE or NAME")
    if separator:
        return name, value
    if name not in environment:
        raise InputError(f"--env {name}: it is not set here; set it, or write {name}=VALUE")
    return name, environment[name]


def _one_line(error: object) -> str:
    """The first line, at most 300 characters of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".:") if lines else type(error).__name__


def _say(message: str) -> None:
    """On stderr: stdout is for the job's log."""
    print(f"submit: {message}", file=sys.stderr, flush=True)


def options_parser() -> argparse.ArgumentParser:
    """Parser of the options before the `--`."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.submit",
        usage="%(prog)s [options] -- COMMAND ...",
        description="Submit a workload to a Ray cluster, follow its log, and exit as the job does.",
        epilog=f"left out of the upload: {', '.join(EXCLUDES)}, and what .gitignore names. "
        f"handed on where set: {', '.join(HANDED_ON)}",
    )
    parser.add_argument("--address", help=f"dashboard URL (RAY_API_SERVER_ADDRESS, else {DEFAULT_ADDRESS})")
    parser.add_argument("--token-file", help="the cluster's token (else where Ray looks for one)")
    parser.add_argument("--working-dir", default=".", help="folder to upload (this one)")
    parser.add_argument("--no-working-dir", action="store_true", help="upload nothing: the nodes have all files")
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave out more of the folder")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable of the job; readable in the cluster",
    )
    parser.add_argument("--no-wait", action="store_true", help="print the job's id and go, without its log")
    return parser


if __name__ == "__main__":
    sys.exit(main())
