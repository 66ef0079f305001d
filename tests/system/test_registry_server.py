"""The life of a model on what a team runs: an MLflow server on PostgreSQL, its artifacts on an S3 server."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from huesong import contracts
from huesong.register import stage as register
from huesong.register.life import cleaning, promotion, retraining, showing
from huesong.register.registry import FIGURES, GATE, Registry
from huesong.runtime.errors import UserError
from huesong.runtime.files import write_json
from tests import s3_server
from tests.console import ROOT, huesong
from tests.hook_receiver import receiver
from tests.mlflow_server import Stack, bucket_of, mlflow_server, postgres, programs, stack
from tests.s3_server import BUCKET
from tests.stage.test_rival import Gains
from tests.stores import new_database
from tests.system.test_registry_races import (
    ROUNDS,
    at_once,
    audited,
    child,
    ended,
    enter,
    make_experiment,
    model,
    or_none_before,
)
from tests.system.test_retrain import Checkout

pytestmark = pytest.mark.slow

COMPOSE = "docker compose -f mlflow/compose.yaml "


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    import mlflow.pyfunc

    assert mlflow.pyfunc.log_model  # before anything is forked
    with stack(tmp_path_factory.mktemp("servers")) as started:
        assert ended(child(lambda: make_experiment(started.uri, Path.cwd()))) == 0
        yield started


@pytest.fixture(autouse=True)
def _environment(servers: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in ("MLFLOW_RUN_ID", "HUESONG_SESSION", "HUESONG_ON_PROMOTE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.uri)
    monkeypatch.setenv("HUESONG_CACHE", str(tmp_path / "cache"))


def registered(folder: Path, servers: Stack, name: str, number: int, figure: float) -> register.RegisterReport:
    place = folder / f"{name}-{number}"
    model(place, number, figure)
    return enter(place, servers.uri, name)


def champion(registry: Registry) -> tuple[str | None, str | None]:
    """Champion and previous."""
    found = (registry.by_alias(alias) for alias in (contracts.CHAMPION, contracts.PREVIOUS))
    first, second = (one.version if one else None for one in found)
    return first, second


def test_the_life_of_a_model(servers: Stack, tmp_path: Path) -> None:
    """First, better, worse, by hand with a reason, roll-back, retired, cleaned away; the audit tells all of it."""
    params = tmp_path / "params.yaml"
    params.write_text(json.dumps({"register": {"model_name": "life", "experiment": "races"}}))
    for number, figure in ((1, 0.5), (2, 0.6), (3, 0.55)):
        registered(tmp_path, servers, "life", number, figure)
    registry = Registry("life", uri=servers.uri)
    assert champion(registry) == ("2", "1")

    def console(*words: str) -> str:
        done = huesong("registry", *words, "--params", str(params), env={"MLFLOW_TRACKING_URI": servers.uri})
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = tmp_path / "told.json"
    console("promote", "3", "--force", "--reason", "a demonstration", "--on-promote", f"tee {told}")
    assert champion(registry) == ("3", "2")
    event = json.loads(told.read_text())
    assert {key: event[key] for key in ("event", "model", "version", "before", "reason")} == {
        "event": "champion", "model": "life", "version": "3", "before": "2", "reason": "a demonstration",
    }  # fmt: skip
    assert "models:/life/2 is the champion again" in console("rollback", "--reason", "it sounds worse")
    assert champion(registry) == ("2", "1")
    console("retire", "3", "--reason", "not needed")
    listed = console("list")
    assert [line.split()[0] for line in listed.splitlines()] == ["version", "3", "2", "1"]
    assert "retired" in listed.splitlines()[1]
    shown = console("show", "3")
    assert "FAIL  arousal_r" in shown
    assert "a demonstration" in shown
    assert "arousal_r" in console("compare", "1", "2")
    assert "would remove models:/life/3, retired" in console("gc", "--hours", "0")
    assert "removed models:/life/3" in console("gc", "--hours", "0", "--yes")
    assert [one.version for one in registry.versions()] == ["1", "2"]
    assert "nothing to remove" in console("gc", "--hours", "0")
    told_all = console("audit")
    kinds = [line.split()[3] for line in told_all.split("\n\n")[0].splitlines()]
    assert kinds == ["promote", "promote", "refuse", "promote", "rollback", "retire", "remove"]
    assert [(who, until == "now") for who, _, until in showing.reigns(showing.history(registry))] == [
        ("1", False), ("2", False), ("3", False), ("2", True),
    ]  # fmt: skip
    full = [json.loads(line) for line in console("audit", "--json").splitlines()]
    assert full[2]["verdict"]["checks"][-1]["passed"] is False
    assert full[2]["verdict"]["policy"]["absolute"]["arousal_r"]["min"] == 0.2
    assert (full[3]["forced"], full[3]["reason"]) == (True, "a demonstration")
    assert full[3]["verdict"]["summary"] == "failed: arousal_r"


def test_the_servers_own_webhooks_tell_of_a_champion(servers: Stack, tmp_path: Path) -> None:
    """As docs/registry.md says it."""
    registry = Registry("hooked", uri=servers.uri)
    with receiver("shared secret") as there:
        hook = registry.client.create_webhook(
            name="champions", url=there.url, events=["model_version_alias.created"], secret="shared secret"
        )
        try:
            registered(tmp_path, servers, "hooked", 1, 0.5)
            registered(tmp_path, servers, "hooked", 2, 0.6)
            with registry.alone():
                promotion.roll_back(registry, "it sounds worse")
            for _ in range(600):
                told = [one["data"]["version"] for one in there.events if one["data"]["alias"] == contracts.CHAMPION]
                if len(told) == 3:
                    break
                time.sleep(0.05)
        finally:
            registry.client.delete_webhook(hook.webhook_id)
    assert sorted(told) == ["1", "1", "2"]
    assert {(one["entity"], one["action"], one["data"]["name"]) for one in there.events} == {
        ("model_version_alias", "created", "hooked")
    }


def test_rounds_of_rivals_leave_one_champion_and_a_whole_audit(servers: Stack, tmp_path: Path) -> None:
    for number in range(3):
        model(tmp_path / f"{number}", number, 0.5 + number / 100)
        assert ended(child(partial(enter, tmp_path / f"{number}", servers.uri, "rivals"))) == 0

    begins = multiprocessing.get_context("fork").Barrier(3)

    def decides(act: str) -> None:
        """All rounds in one process, each begun at the same moment as those of its rivals."""
        registry = Registry("rivals", uri=servers.uri)
        for _ in range(ROUNDS):
            begins.wait(600)
            with registry.alone():
                if act == "back":
                    with or_none_before():
                        promotion.roll_back(registry)
                else:
                    promotion.promote(registry, act)

    at_once(partial(decides, "1"), partial(decides, "2"), partial(decides, "back"))

    assert ended(child(lambda: audited(Registry("rivals", uri=servers.uri)))) == 0


def test_a_thousand_figures_and_a_long_card_fit(servers: Stack, tmp_path: Path) -> None:
    place = tmp_path / "long"
    model(place, 99, 0.5)
    many = {f"a_figure_of_quite_a_long_name_{number}": number / 7 for number in range(1000)}
    write_json(place / "evaluate" / contracts.FIGURES, {"arousal_r": 0.5, **many})
    rows = [{"kind": "pictures", "source": f"source {n}" * 20, "items": n, "labels": "none"} for n in range(100)]
    write_json(place / "train" / contracts.MODEL / contracts.MODEL_CONFIG, {"format": 1, "training": {"data": rows}})
    version = enter(place, servers.uri, "long").version
    registry = Registry("long", uri=servers.uri)
    found = registry.client.get_model_version("long", version.version)
    assert 4000 < len(found.description) < 5000
    assert "README.md among the version's files" in found.description
    assert max(map(len, found.tags.values())) < 5000
    assert json.loads(found.tags[FIGURES]) == {"arousal_r": 0.5}
    assert (
        promotion.figures_of(registry, registry.by_version(version.version))["a_figure_of_quite_a_long_name_7"] == 1.0
    )
    assert found.tags[GATE].startswith("passed")


def test_files_that_were_altered_or_deleted_in_the_bucket_are_refused(servers: Stack, tmp_path: Path) -> None:
    registered(tmp_path, servers, "altered", 1, 0.5)
    registry = Registry("altered", uri=servers.uri)
    version = registry.by_version("1")
    config = next(path for path in servers.s3.folder.rglob(contracts.MODEL_CONFIG) if version.model_id in str(path))
    key, whole = str(config.relative_to(servers.s3.folder / BUCKET)), config.read_bytes()
    for changed, said in (
        (whole.replace(b"1", b"2"), "not those that were registered"),
        (None, "altered/1 cannot be fetched"),
    ):
        servers.s3.change(key, changed)
        with pytest.raises(UserError, match=said):
            registry.folder(version, tmp_path / "fetched")
        assert not list((tmp_path / "fetched").rglob("*.json"))
    servers.s3.change(key, whole)
    fetched = registry.folder(version, tmp_path / "fetched")
    assert (fetched / contracts.MODEL_CONFIG).read_bytes() == whole


# --- what docs/registry.md says of a team's server (mlflow/compose.yaml) ------------------------------


def test_retrain_twice_without_and_with_new_data(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (checkout.root / "mlflow.db").unlink()  # all goes to the server
    checkout.publish("0.5")
    for code in (retraining.PROMOTED, retraining.NOTHING_NEW):
        done = checkout.retrain()
        assert done.returncode == code, done.stderr
    checkout.publish("0.6")
    checkout.settings({"start_from": "out/champion"})
    done = checkout.retrain()
    assert done.returncode == retraining.PROMOTED, done.stderr
    assert checkout.champion == "2"
    assert [one.kind for one in showing.history(checkout.registry)] == ["promote", "promote"]
    assert not (checkout.root / "mlflow.db").exists()


def documented(word: str) -> str:
    """The line of docs/registry.md that runs a program in a container of the team's server: its service, and the program."""
    page = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")
    [line] = re.findall(rf"^    {re.escape(COMPOSE)}(?:exec|run) (.*{word}.*)$", page, re.MULTILINE)
    words = re.sub(r"^(-\S+ )+", "", line.replace("--entrypoint tar storage", "storage tar"))
    return str(words)


def run_here(line: str, where: Path, database: str, data: Path) -> None:
    """A documented line without its container: `database` and the folder `data` are the server's and /data."""
    service, _, command = line.partition(" ")
    port = database.rpartition("/")[0].rpartition(":")[2]
    if service == "database":
        name, _, rest = command.partition(" ")
        tool = shutil.which(name) if name not in ("pg_dump", "pg_restore") else str(programs(None) / name)
        # The tests' database is called postgres, and its owner huesong.
        rest = rest.replace("-U mlflow", f"-h 127.0.0.1 -p {port} -U huesong --no-owner").replace(
            "-d mlflow", "-d postgres"
        )
        command = f"{tool} {rest.replace('-Fc mlflow', '-Fc postgres')}"
    else:
        command = command.replace("/data", str(data)).replace(f"{data} mlflow", f"{data} {s3_server.BUCKET}")
    done = subprocess.run(["bash", "-ec", command], cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


RESTORED = """
import json, sys
from dataclasses import asdict, replace
from pathlib import Path
from huesong import contracts
from huesong.register.life import cleaning, promotion, retraining, showing
from huesong.register.registry import Registry
registry = Registry("kept")
history = [asdict(one) for one in showing.history(registry)]
champion = registry.by_alias(contracts.CHAMPION)
folder = registry.folder(champion, Path(sys.argv[1]))  # held against its digest
files = (folder / contracts.MODEL_CONFIG).exists()
with registry.alone():  # and life goes on
    after = promotion.roll_back(registry).version
print(json.dumps({"history": history, "champion": champion.version, "files": files, "after": after}))
"""
"""In a process of its own: MLflow remembers by a run's id which server has its artifacts."""


def test_first_tie_better_worse_then_backup_and_restore_as_documented(servers: Stack, tmp_path: Path) -> None:
    Gains(tmp_path, servers.uri, "kept").first_tie_better_worse()
    history = showing.history(Registry("kept", uri=servers.uri))
    for word in ("pg_dump", "tar -c"):
        run_here(documented(word), tmp_path, servers.database, servers.s3.folder)
    (tmp_path / "new").mkdir()
    with postgres() as database:
        for word in ("pg_restore", "tar storage -xf"):
            run_here(documented(word), tmp_path, database, tmp_path / "new")
        destination, log = f"s3://{s3_server.BUCKET}/mlflow", tmp_path / "new.log"
        with (
            s3_server.serve(tmp_path / "new") as s3,
            mlflow_server(database, destination, log, **bucket_of(s3)) as uri,
        ):
            done = subprocess.run(
                [sys.executable, "-c", RESTORED, str(tmp_path / "fetched")], capture_output=True, text=True, check=False,
                env={**os.environ, "MLFLOW_TRACKING_URI": uri},
            )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "history": [asdict(one) for one in history], "champion": "3", "files": True, "after": "1",
    }  # fmt: skip


def test_the_schema_is_upgraded_as_documented(servers: Stack, tmp_path: Path) -> None:
    new_database(tmp_path / "mlflow.db")
    for store in ("sqlite:///mlflow.db", servers.database):
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", store]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert Registry("again", uri=servers.uri).client.search_experiments()


def test_a_store_of_artifacts_that_takes_no_model_changes_nothing_that_serves(servers: Stack, tmp_path: Path) -> None:
    """Each upload of a model is answered with an error, and all else works."""
    registered(tmp_path, servers, "refused", 1, 0.5)
    registry = Registry("refused", uri=servers.uri)
    assert cleaning.leftovers(registry, "races", 0) == []
    [model_1] = {path for path in servers.s3.folder.rglob(registry.by_version("1").model_id) if path.is_dir()}
    models, kept = model_1.parent, model_1.parent.with_name("kept")
    models.rename(kept)
    models.write_text("a file where the folder was")
    try:
        with pytest.raises(UserError) as caught:
            registered(tmp_path, servers, "refused", 2, 0.6)
        assert "\n" not in str(caught.value)
    finally:
        models.unlink()
        kept.rename(models)
    servers.s3.noticed(f"{models.relative_to(servers.s3.folder / s3_server.BUCKET)}/probe")
    assert champion(registry) == ("1", None)
    assert [one.version for one in registry.versions()] == ["1"]
    assert cleaning.leftovers(registry, "races", 0) == []
    registered(tmp_path, servers, "refused", 2, 0.6)
    assert champion(registry) == ("2", "1")
    assert [one.kind for one in showing.history(registry)] == ["promote", "promote"]


def test_a_full_store_of_artifacts_changes_nothing_that_serves_until_there_is_room(
    servers: Stack, tmp_path: Path
) -> None:
    """The same database, its artifacts on a small disk of the S3 server, filled to its end."""
    with (
        s3_server.serve(tmp_path / "small", room="24m") as s3,
        mlflow_server(servers.database, f"s3://{BUCKET}/mlflow", tmp_path / "mlflow.log", **bucket_of(s3)) as uri,
    ):
        small = replace(servers, uri=uri)
        assert ended(child(lambda: registered(tmp_path, small, "full", 1, 0.5))) == 0
        filled = []
        for size in (2**20, 2**14, 2**10):
            filled.append(f"fill-{len(filled)}")
            while fits(s3, filled[-1], size):
                filled.append(f"fill-{len(filled)}")

        def refused() -> None:
            with pytest.raises(UserError) as caught:
                registered(tmp_path, small, "full", 2, 0.6)
            assert "\n" not in str(caught.value)
            registry = Registry("full", uri=uri)
            assert champion(registry) == ("1", None)
            assert cleaning.leftovers(registry, "races", 0) == []

        assert ended(child(refused)) == 0
        assert not (tmp_path / "full-2" / "register").exists()
        for key in filled:
            s3.change(key, None)

        def again() -> None:
            registered(tmp_path, small, "full", 2, 0.6)
            registry = Registry("full", uri=uri)
            assert champion(registry) == ("2", "1")
            assert [one.kind for one in showing.history(registry)] == ["promote", "promote"]

        assert ended(child(again)) == 0


def fits(s3: s3_server.S3Server, key: str, size: int) -> bool:
    """Store an object of that many bytes; False where the disk is full."""
    from botocore.exceptions import ClientError

    try:
        s3.change(key, bytes(size))
    except ClientError:
        return False
    return True
