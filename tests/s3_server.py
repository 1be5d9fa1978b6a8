"""A server that speaks S3, with one bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer
from pyarrow import fs


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, str]]:
    """The environment variables that make a process a user of the server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"access_key": "someone", "secret_key": "secret", "region": "us-east-1"}
    fs.S3FileSystem(endpoint_override=address, allow_bucket_creation=True, **keys).create_dir(bucket)
    yield {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    server.stop()
