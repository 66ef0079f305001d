"""Every refusal of an S3 server keeps its cause, through every command: a server here answers with what real ones answer."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from huesong.data import versions
from huesong.runtime import objects
from huesong.runtime.errors import UserError
from tests.s3_server import quick_retries

pytestmark = pytest.mark.slow

REFUSALS = {
    ("ExpiredToken", 400): ("the keys have expired", "aws sso login"),
    ("InvalidAccessKeyId", 403): ("does not know the key", "AWS_ACCESS_KEY_ID"),
    ("SignatureDoesNotMatch", 403): ("the secret key is not the one", "AWS_SECRET_ACCESS_KEY"),
    ("AccessDenied", 403): ("may not do this", "read, list and write"),
    ("RequestTimeTooSkewed", 403): ("the clock of this machine is off", "timedatectl"),
    ("AuthorizationHeaderMalformed", 400): ("another region", "AWS_DEFAULT_REGION=eu-central-1"),
    ("SlowDown", 503): ("asks to slow down, 4 times", "later"),
    ("QuotaExceeded", 403): ("the storage is full", "quota raised"),
    ("XMinioStorageFull", 507): ("the storage is full", "quota raised"),
    ("InternalError", 500): ("gave up after 4 attempts", "try again"),
    ("NoSuchBucket", 404): ("does not exist", "make the bucket"),
}


class Refusing(http.server.BaseHTTPRequestHandler):
    """Refuses every request in one way, or all but the last of `times`."""

    answer = ("", 0)
    asked = 0

    def refuse(self) -> None:
        type(self).asked += 1
        code, status = self.answer
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused; expecting 'eu-central-1'</Message>"
            f"<Region>eu-central-1</Region></Error>"
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = refuse

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Refusing]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-nobody-sees")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    quick_retries(monkeypatch)
    Refusing.asked = 0
    yield Refusing
    server.shutdown()
    server.server_close()


def tables(folder: Path) -> Path:
    folder.mkdir()
    for name in ("images.csv", "music.csv"):
        (folder / name).write_text("id\n")
    return folder


@pytest.mark.parametrize(("answer", "said"), REFUSALS.items(), ids=[code for code, _ in REFUSALS])
def test_each_refusal_has_its_own_line_and_remedy(
    answer: tuple[str, int], said: tuple[str, str], refusing: type[Refusing], tmp_path: Path
) -> None:
    refusing.answer = answer
    data, where = tables(tmp_path / "data"), "s3://bucket/data"
    lines = []
    for call in (
        lambda: versions.fetch("current", where, tmp_path / "out"),
        lambda: versions.fetch("0" * 32, where, tmp_path / "out"),
        lambda: versions.publish(data, where),
        lambda: objects.open_objects(where).put(data / "images.csv", "key"),
        lambda: objects.open_objects(where).delete(["key"]),
    ):
        with pytest.raises(UserError) as caught:
            call()
        lines.append(str(caught.value))
    for line in lines:
        assert all(words in line for words in said), line
        assert "damaged" not in line
        assert "publish" not in line
        assert "\n" not in line
        assert "nobody-sees" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500)])
def test_what_may_pass_is_tried_again_by_botocore(
    code: str, status: int, refusing: type[Refusing], tmp_path: Path
) -> None:
    refusing.answer = (code, status)
    with pytest.raises(UserError):
        objects.open_objects("s3://bucket").get("key", tmp_path / "file")
    assert refusing.asked == objects.ATTEMPTS


def test_what_is_no_data_version_is_not_published(tmp_path: Path) -> None:
    data = tables(tmp_path / "data")
    for name in ("images.csv", "music.csv"):
        (data / name).rename(tmp_path / name)
        with pytest.raises(UserError, match=f"is no data version, {name} is missing"):
            versions.publish(data, str(tmp_path / "remote"))
        (tmp_path / name).rename(data / name)
    assert not (tmp_path / "remote").exists()
    assert versions.publish(data, str(tmp_path / "remote")).files == 2
