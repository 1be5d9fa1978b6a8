"""`grmp rate`: one server for a folder, from its lock to its last line."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import asdict, dataclass
from typing import Any

import uvicorn

from grmp_core.errors import InputError
from grmp_core.ratings.vote_log import VoteLog
from pipelines.configuration.labels import RateConfig
from pipelines.configuration.schema import Config
from pipelines.labelling.image_pool import ImagePool
from pipelines.labelling.own_files import list_path, log_path
from pipelines.labelling.planned_order import PlannedOrder
from pipelines.labelling.rating_app import make_app
from pipelines.labelling.rating_session import RatingSession
from pipelines.runtime.console import say
from pipelines.runtime.web_access import in_address, is_loopback_address, names_of, token_of


@dataclass(frozen=True, kw_only=True)
class Rated:
    """Result of `grmp rate`, once the server has ended."""

    votes: str
    """The vote log."""
    raters: dict[str, int]
    new_votes: int
    unusable: dict[str, str]

    def as_text(self) -> str:
        raters = ", ".join(f"{name} {count}" for name, count in self.raters.items()) or "none"
        lines = [f"votes     {self.votes}", f"new       {self.new_votes}", f"by rater  {raters}"]
        lines += [f"not shown {path}: {reason}" for path, reason in sorted(self.unusable.items())]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def serve(config: Config) -> Rated:
    """Serve the page of `config.rate` until it is interrupted.

    Raises:
        InputError: no folder, its votes are open in another server, or the address cannot be listened on.
    """
    path = log_path(config.rate)
    pool = ImagePool(config.rate.folder or "", own_files=(path, list_path(config)), limits=config.images)
    log = VoteLog(path)
    for note in log.history.notes:
        say(note)
    session = RatingSession(log, pool, config.rate)
    is_planned = config.rate.order == "planned" and session.kind == "grade"
    order = session.plan = PlannedOrder(config, pool, session.votes) if is_planned else None
    try:
        _run(config.rate, session, pool, order)
    finally:
        if order is not None:
            order.stop()
        pool.stop()
        log.close()
    return Rated(votes=path, raters=session.raters(), new_votes=session.new_votes, unusable=dict(pool.unusable))


def _run(config: RateConfig, session: RatingSession, pool: ImagePool, order: PlannedOrder | None) -> None:
    is_loopback = is_loopback_address(config.host)
    token = None if is_loopback and config.token_file is None else token_of(config.token_file, "rate.token_file")
    with _listen(config.host, config.port) as listening:
        port = listening.getsockname()[1]
        host = in_address(config.host)
        hosts = names_of(config.host) if is_loopback else frozenset()
        folder = os.path.basename(os.path.abspath(pool.folder))
        app = make_app(session, pool, title=folder, hosts=hosts, token=token)

        def first_scan_done() -> None:
            summary = pool.summary()
            say(f"rate: {len(pool)} images in {pool.folder}{f'; {summary}' if summary else ''}")

        pool.start(first_scan_done)
        if order is not None:
            order.start()
        name = socket.gethostname() if config.host in ("0.0.0.0", "::") else host  # noqa: S104  # compared, not bound
        say(f"rate: open http://{name}:{port}/{f'?token={token}' if token else ''} (Ctrl-C ends it)")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            say("rate: ended")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        fix = "use another rate.port, or 0 for a free one" if error.errno == errno.EADDRINUSE else "correct rate.host"
        raise InputError(f"cannot listen on {host} port {port}: {error.strerror}; {fix}") from error
