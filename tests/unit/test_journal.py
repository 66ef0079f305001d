"""Decisions, their journal, and what becomes of them when something breaks on the way."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from huesong import contracts
from huesong.register.life import backup, cleaning, hooks, promotion, showing
from huesong.register.life.journal import FOLDER, JOURNAL, Decision, Journal
from huesong.register.registry import GATE, PROMOTED_WHY, RETIRED_AT, Registry
from huesong.runtime.errors import UserError
from tests.console import huesong
from tests.hook_receiver import receiver
from tests.stores import new_database


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Three versions that passed the gate, none of them champion."""
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", hooks.ON_PROMOTE):
        monkeypatch.delenv(key, raising=False)
    made = Registry("life", uri=new_database(tmp_path / "mlflow.db"), root=tmp_path)
    source = tmp_path / "logged"
    (source / "artifacts" / contracts.MODEL).mkdir(parents=True)
    made.client.create_registered_model("life")
    for _ in range(3):
        made.client.create_model_version("life", str(source), tags={GATE: "passed (1 checks)"})
    return made


def aliases(registry: Registry) -> tuple[str | None, str | None]:
    """Champion and previous."""
    found = [registry.by_alias(alias) for alias in (contracts.CHAMPION, contracts.PREVIOUS)]
    return found[0].version if found[0] else None, found[1].version if found[1] else None


def kinds(registry: Registry) -> list[str]:
    return [one.kind for one in showing.history(registry)]


def test_previous_follows_and_a_roll_back_swaps_in_one_step(registry: Registry) -> None:
    for version in ("1", "2", "3"):
        promotion.promote(registry, version)
    assert aliases(registry) == ("3", "2")
    assert promotion.roll_back(registry).version == "2"
    assert aliases(registry) == ("2", "1")
    assert promotion.roll_back(registry).version == "1"
    assert aliases(registry) == ("1", None)
    decisions = showing.history(registry)
    assert [(one.champion_before, one.champion) for one in decisions] == [
        (None, "1"), ("1", "2"), ("2", "3"), ("3", "2"), ("2", "1"),
    ]  # fmt: skip
    assert all(one.who and one.at and one.reason for one in decisions)
    told = showing.audit(decisions)
    assert told.count("champion 2 -> 3") == 1
    assert told.rstrip().endswith("now                   version 1")


@pytest.mark.parametrize("act", ["promote", "rollback", "retire"])
def test_a_decision_that_was_written_and_not_carried_out_is_finished_by_the_next_command(
    act: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promotion.promote(registry, "1")
    promotion.promote(registry, "2")
    acts = {
        "promote": lambda: promotion.promote(registry, "3"),
        "rollback": lambda: promotion.roll_back(registry),
        "retire": lambda: promotion.retire(registry, "3", "no use"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "carry_out", lambda *_: pytest.fail("killed"))
        with pytest.raises(BaseException, match="killed"):
            acts[act]()
    assert aliases(registry) == ("2", "1")
    (done,) = promotion.repair(registry)
    assert done.kind == act
    assert aliases(registry) == {"promote": ("3", "2"), "rollback": ("1", None), "retire": ("2", "1")}[act]
    assert (RETIRED_AT in registry.by_version("3").tags) == (act == "retire")
    assert promotion.repair(registry) == []
    assert kinds(registry) == ["promote", "promote", act]


def test_a_decision_whose_writing_was_cut_short_was_never_taken(registry: Registry, tmp_path: Path) -> None:
    promotion.promote(registry, "1")
    run = registry.client.get_registered_model("life").tags[JOURNAL]
    (written,) = tmp_path.rglob("000001-*.json")
    (written.parent / "000002-deadbeef.json").write_text(written.read_text()[:100])
    assert promotion.repair(registry) == []
    assert aliases(registry) == ("1", None)
    promotion.promote(registry, "2")
    assert [one.number for one in showing.history(registry)] == [1, 3]
    assert len(registry.client.list_artifacts(run, FOLDER)) == 3


def test_a_database_that_was_put_back_without_its_journal_goes_on(registry: Registry) -> None:
    promotion.promote(registry, "1")
    with promotion.talking(registry) as journal:
        journal.write(
            Decision("promote", "9", "1", "9", "of a version that is no more", effects={"aliases": {"champion": "9"}})
        )
    (taken_back,) = promotion.repair(registry)
    assert (taken_back.kind, taken_back.champion) == ("withdraw", "1")
    assert promotion.repair(registry) == []
    promotion.promote(registry, "2")
    assert aliases(registry) == ("2", "1")


def test_an_alias_that_was_moved_by_other_means_is_in_the_audit(registry: Registry) -> None:
    promotion.promote(registry, "1")
    registry.client.set_registered_model_alias("life", contracts.CHAMPION, "3")
    (found,) = promotion.repair(registry)
    assert (found.kind, found.champion_before, found.champion) == ("found", "1", "3")
    assert "other means" in str(found)
    assert aliases(registry) == ("3", "1"), "the one before it is where a roll-back goes"
    promotion.roll_back(registry, "not this one")
    assert aliases(registry) == ("1", None)
    registry.client.delete_registered_model_alias("life", contracts.CHAMPION)
    (gone,) = promotion.repair(registry)
    assert (gone.kind, gone.champion) == ("found", None)


def test_of_two_decisions_with_one_number_the_later_name_holds(registry: Registry) -> None:
    """What a lock that was taken over from a slow process leads to."""
    promotion.promote(registry, "1")
    with promotion.talking(registry) as journal:
        slow = journal.write(Decision("promote", "2", "1", "2", "slow", effects={"aliases": {contracts.CHAMPION: "2"}}))
    promotion.promote(registry, "3")  # finishes the slow one's decision, then takes its own
    with promotion.talking(registry) as journal, pytest.raises(UserError, match="another decision was taken meanwhile"):
        journal.carry_out(slow)
    assert aliases(registry) == ("3", "2")


def test_a_store_that_takes_no_decision_leaves_the_champion(registry: Registry, tmp_path: Path) -> None:
    promotion.promote(registry, "1")
    (written,) = tmp_path.rglob("000001-*.json")
    kept = written.parent.rename(tmp_path / "kept")
    written.parent.write_text("a file where the folder was")
    with pytest.raises(UserError, match="model registry"):
        promotion.promote(registry, "2")
    assert aliases(registry) == ("1", None)
    written.parent.unlink()
    kept.rename(written.parent)
    promotion.promote(registry, "2")
    assert aliases(registry) == ("2", "1")


def test_what_is_retired_comes_back_by_force_alone(registry: Registry) -> None:
    promotion.promote(registry, "1")
    promotion.promote(registry, "2")
    with pytest.raises(UserError, match="is the champion"):
        promotion.retire(registry, "2", "no")
    with pytest.raises(UserError, match="--reason"):
        promotion.retire(registry, "1", " ")
    promotion.retire(registry, "1", "wrong data")
    assert aliases(registry) == ("2", None)
    with pytest.raises(UserError, match="no champion before version 2"):
        promotion.roll_back(registry)
    with pytest.raises(UserError, match="it was retired"):
        promotion.promote(registry, "1")
    promotion.promote(registry, "1", force=True, reason="it was right after all")
    found = registry.by_version("1")
    assert (RETIRED_AT in found.tags, found.tags[PROMOTED_WHY]) == (False, "it was right after all")
    assert showing.history(registry)[-1].forced


def test_only_what_has_no_alias_is_removed(registry: Registry) -> None:
    promotion.promote(registry, "1")
    promotion.retire(registry, "2", "no use")
    assert [one.version for one in cleaning.leftovers(registry, "none", 0)] == ["2"]
    cleaning.clean(registry, cleaning.leftovers(registry, "none", 0)[0])
    assert [one.version for one in registry.versions()] == ["1", "3"]
    with pytest.raises(UserError, match="is champion: it is not removed"):
        promotion.remove(registry, "1", "no")
    assert kinds(registry) == ["promote", "retire", "remove"]


def test_no_secret_is_in_a_decision(registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter-22")
    promotion.promote(registry, "1", reason="see https://me:hunter-22@host/page")
    text = "".join(path.read_text() for path in tmp_path.rglob("0*.json"))
    assert "hunter-22" not in text
    assert "https://***@host/page" in text
    assert "hunter-22" not in registry.by_version("1").tags[PROMOTED_WHY]


# --- backup --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlflow.db", "notes.txt", "photos.tar"])
def test_a_backup_replaces_nothing_but_a_backup(registry: Registry, name: str, tmp_path: Path) -> None:
    promotion.promote(registry, "1")
    (tmp_path / "notes.txt").write_text("mine")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "notes.txt", "notes.txt")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UserError, match="is there and is no backup of a registry: give another name"):
        backup.back_up(registry, tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    backup.back_up(registry, tmp_path / "registry.tar")
    backup.back_up(registry, tmp_path / "registry.tar")


@pytest.mark.slow
def test_a_backup_brings_back_versions_aliases_and_decisions_in_another_folder(
    registry: Registry, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        promotion.promote(registry, version)
    settings = json.dumps({"register": {"model_name": "life"}})
    (tmp_path / "params.yaml").write_text(settings)
    kept = huesong("registry", "backup", "registry.tar", cwd=tmp_path)
    assert kept.stdout.startswith("registry.tar: ")
    promotion.promote(registry, "3")
    again = huesong("registry", "restore", "registry.tar", cwd=tmp_path)
    assert (again.returncode, "is there already: move it away" in again.stderr) == (2, True)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "params.yaml").write_text(settings)

    def console(*words: str) -> str:  # a process of its own: MLflow remembers where a run's files lie
        command = [sys.executable, "-m", "huesong.cli", "registry", *words]
        done = subprocess.run(command, cwd=moved, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert console("restore", "../registry.tar") == "champion models:/life/2, previous models:/life/1\n"
    told = [json.loads(line) for line in console("audit", "--json").splitlines()]
    assert told == [asdict(one) for one in showing.history(registry)[:2]]
    assert len(list(moved.glob("mlartifacts/**/00000*.json"))) == 2


def test_what_is_no_backup_is_refused_and_nothing_is_written(registry: Registry, tmp_path: Path) -> None:
    promotion.promote(registry, "1")
    archive, place = tmp_path / "registry.tar", tmp_path / "empty"
    backup.back_up(registry, archive)
    whole = archive.read_bytes()
    place.mkdir()
    for damaged in (whole[: len(whole) // 3], b"no tar at all", b""):
        archive.write_bytes(damaged)
        with pytest.raises(UserError, match="no backup of the registry, or a damaged one"):
            backup.restore(f"sqlite:///{place / 'mlflow.db'}", archive)
        assert list(place.iterdir()) == []
    with pytest.raises(UserError, match="does not exist"):
        backup.restore(f"sqlite:///{place / 'mlflow.db'}", tmp_path / "none.tar")
    with pytest.raises(UserError, match=r"docs/registry\.md"):
        backup.restore("http://127.0.0.1:9", archive)


# --- telling others ------------------------------------------------------------------------------


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_a_hook_gets_the_event_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "told.json"
    code = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"
    event: dict[str, Any] = {"event": "champion", "version": "3"}
    assert hooks.notify(python(code), event, dead_letters=tmp_path / "dead")
    assert {key: value for key, value in json.loads(out.read_text()).items() if key != "at"} == event
    assert hooks.notify(None, event)
    assert not (tmp_path / "dead").exists()


def test_a_hook_is_tried_again_and_at_last_the_event_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "PAUSES_S", (0.0, 0.0))
    count, dead = tmp_path / "count", tmp_path / "sub" / "dead.jsonl"
    code = f"p = {str(count)!r}; open(p, 'a').write('x'); import sys; sys.exit(len(open(p).read()) < {{}})"
    assert hooks.notify(python(code.format(3)), {"event": "champion"}, dead_letters=dead)
    assert not dead.exists()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    assert not hooks.notify(python(code.format(99)), {"event": "failed", "error": "secret-1"}, dead_letters=dead)
    assert not hooks.notify("/no/such/program", {"event": "champion"}, dead_letters=dead)
    first, second = map(json.loads, dead.read_text().splitlines())
    assert (first["why"], first["event"]["error"]) == ("exit code 1", "***")
    assert second["why"] == "FileNotFoundError"


def test_an_address_gets_the_event_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "PAUSES_S", (0.0, 0.0))
    dead = tmp_path / "dead.jsonl"
    said: list[str] = []
    monkeypatch.setattr(hooks.log, "warning", lambda text, *given: said.append(text % given))
    with receiver("the secret", refused=1) as there:
        monkeypatch.setenv(hooks.SECRET, "the secret")
        assert hooks.notify(there.url, {"event": "champion", "version": "3"}, dead_letters=dead)
        assert [(one["event"], one["version"]) for one in there.events] == [("champion", "3")]
        monkeypatch.setenv(hooks.SECRET, "another")
        assert not hooks.notify(there.url, {"event": "failed", "error": "another"}, dead_letters=dead)
        assert len(there.events) == 1
    assert not hooks.notify(there.url, {"event": "failed"}, dead_letters=dead)
    kept = [json.loads(line) for line in dead.read_text().splitlines()]
    assert [one["why"] for one in kept] == ["status 401", "URLError"]
    assert kept[0]["event"]["error"] == "***"
    assert "127.0.0.1 could not be told" in said[0]
    assert "a-secret-path" not in "".join(said)


@pytest.mark.parametrize(
    "hook",
    [
        "https://me:s3cret@example.invalid/hook",
        "http://[::1",
        "http://host.invalid/a b",
        "http://me:s3cret@/x",
        "/no/such s3cret",
    ],
)
def test_no_hook_fails_what_it_tells_of_and_none_is_shown(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "PAUSES_S", ())
    said: list[str] = []
    monkeypatch.setattr(hooks.log, "warning", lambda text, *given: said.append(text % given))
    assert not hooks.notify(hook, {"event": "champion", "version": "3"}, dead_letters=tmp_path / "dead")
    assert json.loads((tmp_path / "dead").read_text())["event"]["version"] == "3"
    assert not hooks.notify(hook, {"event": "champion", "version": "4"}, dead_letters=tmp_path / "dead" / "below")
    assert '"version": "4"' in said[1], "where no file can be written the log has the event"
    assert "s3cret" not in "".join(said) + (tmp_path / "dead").read_text()


def test_a_redirect_is_not_taken_for_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "PAUSES_S", ())
    with receiver("the secret", moved=True) as there:
        monkeypatch.setenv(hooks.SECRET, "the secret")
        assert not hooks.notify(there.url, {"event": "champion"}, dead_letters=tmp_path / "dead")
        assert there.events == []
    assert json.loads((tmp_path / "dead").read_text())["why"] == "status 302"


def test_a_hook_of_spaces_is_none(tmp_path: Path) -> None:
    assert hooks.notify("  ", {"event": "champion"}, dead_letters=tmp_path / "dead")
    assert not (tmp_path / "dead").exists()


def test_a_command_that_cannot_be_split_is_a_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "PAUSES_S", ())
    assert not hooks.notify("tell 'unclosed", {"event": "champion"}, dead_letters=tmp_path / "dead")
    assert json.loads((tmp_path / "dead").read_text())["why"] == "ValueError"


def test_a_stage_that_fails_is_told_of(tmp_path: Path) -> None:
    told = tmp_path / "told"
    env = {"HUESONG_ON_FAILURE": f"tee -a {shlex.quote(str(told))}", "HUESONG_TRACKING": "off"}
    (tmp_path / "params.yaml").write_text("{}")
    done = huesong("label", "--preprocess", tmp_path / "none", "--out", tmp_path / "out", cwd=tmp_path, env=env)
    assert done.returncode == 2
    (event,) = map(json.loads, told.read_text().splitlines())
    assert (event["event"], event["what"]) == ("failed", "huesong label")
    assert "huesong preprocess" in event["error"]
