"""A real S3 server for tests: `rclone serve s3` over a folder, and a line to it that can be cut."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from huesong.runtime import objects

KEY, SECRET = "test-key", "test-secret-of-some-length"
BUCKET = "bucket"
FORGOTTEN_S = 1
"""The server keeps for so long what it knows of folders, which a test may change behind its back."""


@dataclass
class S3Server:
    """A running server: its address and the folder whose subfolders are its buckets."""

    url: str
    folder: Path

    def object(self, key: str) -> Path:
        """The file behind an object, to look at; the server keeps sizes in memory, so that changes go through it."""
        return self.folder / BUCKET / key

    def change(self, key: str, content: bytes | None) -> None:
        """Replace an object, or remove it (None), as another user of the bucket would."""
        import boto3

        client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )
        if content is None:
            client.delete_object(Bucket=BUCKET, Key=key)
        else:
            client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def noticed(self, key: str) -> None:
        """Wait until an object can be written, where a test has just put a folder back; the object does not stay."""
        from botocore.exceptions import ClientError

        for left in reversed(range(30)):
            try:
                self.change(key, b"")
                break
            except ClientError:
                if not left:
                    raise
                time.sleep(FORGOTTEN_S)
        self.change(key, None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serve(folder: Path, room: str = "") -> Iterator[S3Server]:
    """Serve `folder` until the block ends; with `room` from a disk of that size ("8m"), which the server alone sees."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    port = free_port()
    program = Path(sys.executable).with_name("rclone")
    log = (folder.parent / f"{folder.name}.log").open("w+")
    # Mounted in namespaces of the server's own: that takes no rights.
    mounted = 'mount -t tmpfs -o size="$0" tmpfs "$1" && mkdir "$1/$2" && shift 2 && exec "$@"'
    disk = (
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, room, str(folder), BUCKET]
        if room
        else []
    )
    server = subprocess.Popen(
        [
            *disk, str(program), "serve", "s3", str(folder), f"--addr=127.0.0.1:{port}", "--vfs-cache-mode=off",
            f"--dir-cache-time={FORGOTTEN_S}s", "--config", str(folder.parent / "rclone.conf"),
        ],
        env={**os.environ, "RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert server.poll() is None, Path(log.name).read_text()
            time.sleep(0.1)
        yield S3Server(f"http://127.0.0.1:{port}", folder)
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def credentials(monkeypatch: pytest.MonkeyPatch, server: S3Server, secret: str = SECRET) -> None:
    """Set the environment as a user would: account and address of the server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits between attempts: botocore's for requests, ours for bodies."""
    from botocore.retries.standard import ExponentialBackoff

    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.01)
    monkeypatch.setattr(objects, "BACKOFF_S", 0.01)


class Line:
    """A TCP line to the server that cuts the first `cuts` long answers after `limit` bytes."""

    def __init__(self, server: S3Server, cuts: int, limit: int = 2000) -> None:
        self.target = int(server.url.rsplit(":", 1)[1])
        self.cuts, self.limit = cuts, limit
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while block := source.recv(1000):
                passed += len(block)
                if answers and passed > self.limit:
                    with self.lock:
                        cut = self.cuts > 0
                        self.cuts -= cut
                    if cut:
                        break
                    passed = -(10**9)  # this connection is spared from here on
                sink.sendall(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
