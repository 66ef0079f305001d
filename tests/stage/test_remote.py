"""Data versions in object storage: a local folder, and a real S3 server started here."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huesong.data import versions as remote
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest
from tests import console
from tests.s3_server import BUCKET, KEY, SECRET, Line, S3Server, credentials, quick_retries, serve

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
S3 = f"s3://{BUCKET}/data"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve(tmp_path_factory.mktemp("s3") / "buckets") as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:
    credentials(monkeypatch, s3)
    quick_retries(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with subfolders, equal files, an empty one and one that is longer than a block."""
    folder = tmp_path / "data"
    for name, content in {
        "images.csv": b"id\n1\n", "music.csv": b"id\n2\n",
        "images/a.jpg": b"a" * 5000, "images/b.jpg": b"a" * 5000, "music/x/deep.mid": b"\0" * 9,
        "empty": b"", "long.bin": os.urandom(3 * 2**20), "odd name é#+.txt": b"odd",
    }.items():  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


Change = Callable[[str, bytes | None], None]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> tuple[str, Change]:
    """A remote of each kind, and what replaces (or, with None, removes) one of its objects."""

    def change_file(key: str, content: bytes | None) -> None:
        path = tmp_path / "remote" / key
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    if request.param == "folder":
        return str(tmp_path / "remote"), change_file
    prefix = f"data/{tmp_path.name}"
    return f"s3://{BUCKET}/{prefix}", lambda key, content: s3.change(f"{prefix}/{key}", content)


def test_publish_and_fetch(place: tuple[str, Change], data: Path, tmp_path: Path) -> None:
    where, _ = place
    first = remote.publish(data, where)
    assert (first.files, first.uploaded) == (8, 7)  # two files are equal
    again = remote.publish(data, where)
    assert (again.digest, again.uploaded) == (first.digest, 0)
    assert remote.current(where) == first.digest
    (data / "more.txt").write_text("more")
    second = remote.publish(data, where)
    assert second.uploaded == 1
    assert remote.current(where) == second.digest != first.digest
    report = remote.fetch(remote.CURRENT, where, tmp_path / "out")
    assert (report.digest, report.files) == (second.digest, 9)
    assert report.bytes == sum(p.stat().st_size for p in data.rglob("*") if p.is_file())
    assert folder_digest(tmp_path / "out") == folder_digest(data)
    remote.fetch(first.digest.removesuffix(".dir"), where, tmp_path / "out")
    assert not (tmp_path / "out" / "more.txt").exists()


def test_the_sample_set_has_the_digest_that_dvc_gave_it(tmp_path: Path) -> None:
    digest = next(w for w in (ROOT / "data.dvc").read_text().split() if w.endswith(".dir"))
    report = remote.fetch(digest, str(ROOT / "dvc-remote"), tmp_path / "data")
    assert remote.publish(tmp_path / "data", str(tmp_path / "remote")).digest == report.digest == digest


def dvc(folder: Path, *words: str) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["dvc", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_dvc_pushes_and_fetch_takes_it_and_the_other_way_round(data: Path, tmp_path: Path, s3: S3Server) -> None:
    where = f"s3://{BUCKET}/dvc"
    repo = tmp_path / "repo"
    repo.mkdir()
    data.rename(repo / "data")
    dvc(repo, "init", "--no-scm", "-q")
    dvc(repo, "remote", "add", "-d", "s3", where)
    dvc(repo, "remote", "modify", "s3", "endpointurl", s3.url)
    dvc(repo, "add", "-q", "data")
    dvc(repo, "push", "-q")
    digest = next(w for w in (repo / "data.dvc").read_text().split() if w.endswith(".dir"))
    remote.fetch(digest, where, tmp_path / "out")
    assert folder_digest(tmp_path / "out") == folder_digest(repo / "data")

    (tmp_path / "out" / "new.txt").write_text("new")
    published = remote.publish(tmp_path / "out", where)
    assert published.uploaded == 1
    pointer = repo / "data.dvc"
    pointer.write_text(pointer.read_text().replace(digest, published.digest))
    dvc(repo, "pull", "-q", "--force")
    assert folder_digest(tmp_path / "out") == folder_digest(repo / "data")


# --- what goes wrong -----------------------------------------------------------------------------


def unchanged(out: Path, call: Callable[[], object], message: str) -> None:
    """The call fails with one line, and neither `out` nor anything beside it is touched."""
    out.mkdir(exist_ok=True)
    (out / "old").write_text("old")
    before = sorted(out.parent.iterdir())
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert [p.name for p in out.iterdir()] == ["old"]
    assert sorted(out.parent.iterdir()) == before


def test_a_damaged_object(place: tuple[str, Change], data: Path, tmp_path: Path) -> None:
    where, change = place
    digest = remote.publish(data, where).digest
    damaged = remote.key_of(remote.md5_of(data / "images.csv"))
    change(damaged, b"id\n")
    fetch = lambda: remote.fetch(digest, where, tmp_path / "out")  # noqa: E731
    unchanged(tmp_path / "out", fetch, "images.csv of version .* MD5")
    change(damaged, None)
    unchanged(tmp_path / "out", fetch, "images.csv of version .* is missing: .*; push the version again")


def test_a_version_that_is_not_there(place: tuple[str, Change], data: Path, tmp_path: Path) -> None:
    where, change = place
    unchanged(tmp_path / "out", lambda: remote.fetch("current", where, tmp_path / "out"), "no published data version")
    digest = remote.publish(data, where).digest
    other = "0" * 32
    unchanged(tmp_path / "out", lambda: remote.fetch(other, where, tmp_path / "out"), f"version {other}.dir is not in")
    unchanged(tmp_path / "out", lambda: remote.fetch("v1", where, tmp_path / "out"), "'v1' is no data digest")
    change(remote.key_of(digest), b"[]")
    unchanged(tmp_path / "out", lambda: remote.fetch(digest, where, tmp_path / "out"), "list of version .* MD5")
    change(remote.POINTER, b"{}")
    unchanged(tmp_path / "out", lambda: remote.fetch("current", where, tmp_path / "out"), "damaged")


def test_a_cut_line_is_taken_up_again(data: Path, tmp_path: Path, s3: S3Server) -> None:
    where = f"s3://{BUCKET}/cut"
    digest = remote.publish(data, where).digest
    line = Line(s3, cuts=3)
    remote.fetch(digest, where, tmp_path / "good", endpoint_url=line.url)
    assert line.cuts == 0
    assert folder_digest(tmp_path / "good") == folder_digest(data)
    line.close()

    line = Line(s3, cuts=10**6)
    fetch = lambda: remote.fetch(digest, where, tmp_path / "out", endpoint_url=line.url)  # noqa: E731
    unchanged(tmp_path / "out", fetch, "gave up after 4 attempts")
    line.close()


def test_bad_credentials(data: Path, tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = remote.publish(data, S3).digest
    fetch = lambda: remote.fetch(digest, S3, tmp_path / "out")  # noqa: E731
    credentials(monkeypatch, s3, secret="wrong")
    unchanged(tmp_path / "out", fetch, "access denied.*AWS_ACCESS_KEY_ID")
    with pytest.raises(UserError, match="access denied"):
        remote.publish(data, S3)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    unchanged(tmp_path / "out", fetch, "no usable credentials")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    unchanged(tmp_path / "out", fetch, "no usable credentials .*nobody")


def test_no_bucket_no_server_no_scheme(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("s3://nowhere/data", "s3://nowhere"):
        with pytest.raises(UserError, match="s3://nowhere does not exist"):
            remote.publish(data, where)
    with pytest.raises(UserError, match="names no bucket"):
        remote.publish(data, "s3://")
    with pytest.raises(UserError, match="unknown kind of storage"):
        remote.publish(data, "gs://bucket")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"no server answers, gave up after 4 attempts .* check AWS_ENDPOINT_URL"):
        remote.publish(data, S3)
    with pytest.raises(UserError, match="holds no files"):
        remote.publish(tmp_path / "none", S3)


def test_a_publication_that_fails_leaves_the_current_version(data: Path, s3: S3Server, tmp_path: Path) -> None:
    where = f"s3://{BUCKET}/half"
    digest = remote.publish(data, where).digest
    (data / "more.bin").write_bytes(os.urandom(50_000))
    with pytest.raises(UserError):
        remote.publish(data, where, endpoint_url="http://127.0.0.1:9")
    assert remote.current(where) == digest


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../../x", "a\\b", "", ".", "a//b", "C:x", "a\0b", 3, "a/./b"])
def test_no_path_leaves_the_folder(name: object, tmp_path: Path) -> None:
    assert not remote.safe_path(name)
    folder = tmp_path / "remote"
    text = json.dumps([{"md5": hashlib.md5(b"x").hexdigest(), "relpath": name}]).encode()
    store(folder, text, ".dir")
    digest = store(folder, b"x")
    digest = hashlib.md5(text).hexdigest()
    unchanged(tmp_path / "out", lambda: remote.fetch(digest, str(folder), tmp_path / "out"), "no path inside a folder")


def test_lists_that_contradict_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    md5 = store(folder, b"x")
    for names, message in ((["a", "a"], "listed twice"), (["a", "a/b"], "a file and a folder")):
        text = json.dumps([{"md5": md5, "relpath": name} for name in names]).encode()
        digest = store(folder, text, ".dir")
        unchanged(tmp_path / "out", lambda d=digest: remote.fetch(d, str(folder), tmp_path / "out"), message)
    digest = store(folder, b"not json", ".dir")
    unchanged(tmp_path / "out", lambda: remote.fetch(digest, str(folder), tmp_path / "out"), "is no DVC list")


def store(folder: Path, content: bytes, ending: str = "") -> str:
    digest = hashlib.md5(content).hexdigest()
    path = folder / remote.key_of(digest + ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


# --- MLflow and the console ----------------------------------------------------------------------


def test_mlflow_artifacts_lie_in_s3(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    from tests.stores import new_database

    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3.url)
    client = mlflow.MlflowClient(new_database(tmp_path / "mlflow.db"))
    experiment = client.create_experiment("in s3", artifact_location=f"s3://{BUCKET}/mlflow")
    run = client.create_run(experiment)
    (tmp_path / "report.html").write_text("<p>report</p>")
    client.log_artifact(run.info.run_id, str(tmp_path / "report.html"), "evaluate")
    assert s3.object(f"mlflow/{run.info.run_id}/artifacts/evaluate/report.html").is_file()
    path = client.download_artifacts(run.info.run_id, "evaluate/report.html", str(tmp_path))
    assert filecmp.cmp(path, tmp_path / "report.html", shallow=False)


def test_console(data: Path, tmp_path: Path, s3: S3Server) -> None:
    def huesong(*words: str) -> console.Done:
        env = {"AWS_ACCESS_KEY_ID": KEY, "HUESONG_REMOTE": f"s3://{BUCKET}/console"}
        return console.huesong("data", *words, cwd=tmp_path, env=env)

    done = huesong("publish", "--data", "data")
    assert done.returncode == 0, done.stderr
    assert "now the one that scheduled runs take" in done.stdout
    assert huesong("fetch", "--out", "copy").returncode == 0
    assert folder_digest(tmp_path / "copy") == folder_digest(data)
    done = huesong("fetch", "--out", "copy")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "copy is not empty" in done.stderr
