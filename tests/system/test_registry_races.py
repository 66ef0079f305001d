"""Registering, promoting, rolling back while others do, or killed at any call of MLflow's: the registry stays true."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from huesong import contracts
from huesong.config import RegisterConfig
from huesong.register import stage as register
from huesong.register.life import promotion, showing
from huesong.register.registry import DIGEST, GATE, PROMOTED_AT, PROMOTION, ROLLED_BACK_AT, Registry
from huesong.runtime.errors import UserError
from huesong.runtime.files import write_json
from tests.examples import many
from tests.stores import new_database

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]

KILLED, FAILED = 9, 3
ROUNDS, RACES = 20, 50
"""Of moves in one registry; of `make fuzz`, each in a registry of its own."""
GATE_YAML = "absolute: {arousal_r: {min: 0.2}}\nrelative: {arousal_r: {better: higher, margin: 0}}\n"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_SESSION"):
        monkeypatch.delenv(key, raising=False)


def model(folder: Path, seed: int, arousal_r: float) -> None:
    """Artifacts of a model: what is in its folder does not matter here."""
    (folder / "train" / contracts.MODEL).mkdir(parents=True, exist_ok=True)
    write_json(folder / "train" / contracts.MODEL / contracts.MODEL_CONFIG, {"format": 1, "training": {"seed": seed}})
    (folder / "evaluate").mkdir(exist_ok=True)
    write_json(folder / "evaluate" / contracts.FIGURES, {"arousal_r": arousal_r})
    (folder / "gate.yaml").write_text(GATE_YAML)


def enter(folder: Path, uri: str, name: str) -> register.RegisterReport:
    return register.run(
        RegisterConfig(model_name=name, experiment="races"), train=folder / "train", evaluate=folder / "evaluate",
        gate=folder / "gate.yaml", out=folder / "register", tracking_uri=uri, tags={},
    )  # fmt: skip


def child(action: Callable[[], object]) -> int:
    """Start `action` in a process of its own; returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_once(*actions: Callable[[], object]) -> None:
    """Do all in processes that start at the same moment."""
    reading, writing = os.pipe()

    def waiting(action: Callable[[], object]) -> None:
        os.close(writing)
        os.read(reading, 1)  # until the last writer has closed
        action()

    started = [child(partial(waiting, action)) for action in actions]
    os.close(reading)
    os.close(writing)
    assert [ended(pid) for pid in started] == [0] * len(actions)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, str]:
    """A folder, and the URI of an empty registry; MLflow is imported before anything is forked."""
    import mlflow.pyfunc

    assert mlflow.pyfunc.log_model
    uri = new_database(tmp_path / "mlflow.db")
    # The parent opens no connection: children would inherit it.
    experiment = child(lambda: make_experiment(uri, tmp_path))
    assert ended(experiment) == 0
    return tmp_path, uri


def audited(registry: Registry) -> None:
    """There is a champion, and the audit of what rivals decided in ROUNDS rounds is complete."""
    one = registry.by_alias(contracts.CHAMPION)
    assert one is not None
    assert ROLLED_BACK_AT not in one.tags
    decisions = showing.history(registry)
    assert [decision.number for decision in decisions] == list(range(1, len(decisions) + 1))
    # Each begins with the champion that the one before left, and the last one left the present champion.
    assert [d.champion_before for d in decisions[1:]] == [d.champion for d in decisions[:-1]]
    assert decisions[-1].champion == one.version
    assert 1 <= sum(decision.kind == "rollback" for decision in decisions) <= ROUNDS


@contextlib.contextmanager
def or_none_before() -> Iterator[None]:
    """For a roll-back among rivals: once all that was promoted before was rolled back, there is nothing to go back to."""
    try:
        yield
    except UserError as error:
        if "had no champion before version" not in str(error):
            raise


def make_experiment(uri: str, root: Path) -> None:
    from huesong.tracking import store

    store.experiment_id(store.connect(uri), "races", uri, root)


def kept_state(folder: Path) -> Callable[[], None]:
    """Keep the store as it is; what is returned puts it back, the journal among its artifacts included."""
    shutil.copyfile(folder / "mlflow.db", folder / "kept.db")
    shutil.copytree(folder / "mlartifacts", folder / "kept")

    def restore() -> None:
        shutil.copyfile(folder / "kept.db", folder / "mlflow.db")
        shutil.rmtree(folder / "mlartifacts")
        shutil.copytree(folder / "kept", folder / "mlartifacts")

    return restore


def held(check: Callable[[], object]) -> None:
    """Run checks that open the registry in a child, too."""
    assert ended(child(check)) == 0


def test_of_two_at_once_the_better_one_is_champion_and_both_tell_the_truth(place: tuple[Path, str]) -> None:
    folder, uri = place
    for number in range(min(many(3), RACES)):
        name, figures = f"better-{number}", (0.5, 0.6) if number % 2 else (0.6, 0.5)
        for index, figure in enumerate(figures):
            model(folder / f"{index}", 1000 * number + index, figure)
        at_once(*(partial(enter, folder / f"{index}", uri, name) for index in range(2)))

        def check(name: str = name) -> None:
            registry = Registry(name, uri=uri)
            champion = registry.by_alias(contracts.CHAMPION)
            assert champion is not None
            assert champion.figures["arousal_r"] == 0.6
            promoted = sorted(registry.versions(), key=lambda version: version.promotion)
            counts = [version.promotion[0] for version in promoted if PROMOTION in version.tags]
            assert counts in ([1], [1, 2]), counts
            assert len(promoted) == 2
            # Whoever came second and was worse was told so.
            assert all(v.tags[GATE].startswith("passed") for v in promoted if PROMOTION in v.tags)
            assert all(v.tags[GATE] == "failed: arousal_r" for v in promoted if PROMOTION not in v.tags)

        held(check)


def test_the_same_model_at_once_is_one_version(place: tuple[Path, str]) -> None:
    folder, uri = place
    for number in range(min(many(3), RACES)):
        for index in range(3):
            model(folder / f"{index}", number, 0.5)
        name = f"same-{number}"
        at_once(*(partial(enter, folder / f"{index}", uri, name) for index in range(3)))

        def check(name: str = name) -> None:
            versions = Registry(name, uri=uri).versions()
            assert len(versions) == 1
            assert PROMOTION in versions[0].tags

        held(check)


def test_promotions_and_rollbacks_at_once_leave_one_champion_and_one_order(place: tuple[Path, str]) -> None:
    folder, uri = place
    for index in range(3):
        model(folder / f"{index}", index, 0.5 + index / 100)
        assert ended(child(partial(enter, folder / f"{index}", uri, "moves"))) == 0

    def promote(version: str) -> None:
        registry = Registry("moves", uri=uri)
        with registry.alone():
            promotion.promote(registry, version)

    def roll_back() -> None:
        registry = Registry("moves", uri=uri)
        with registry.alone(), or_none_before():
            promotion.roll_back(registry)

    for _ in range(ROUNDS):
        at_once(lambda: promote("1"), lambda: promote("2"), roll_back)

        def check() -> None:
            registry = Registry("moves", uri=uri)
            champion = registry.by_alias(contracts.CHAMPION)
            assert champion is not None
            assert ROLLED_BACK_AT not in champion.tags
            assert PROMOTED_AT in champion.tags
            orders = [version.promotion[0] for version in registry.versions()]
            assert len(set(orders)) == len(orders)
            later = [v for v in registry.versions() if v.promotion > champion.promotion]
            assert all(ROLLED_BACK_AT in version.tags for version in later)

        held(check)
    held(lambda: audited(Registry("moves", uri=uri)))


# --- killed at any change of MLflow's --------------------------------------------------------------


CHANGING = ("create_", "_create_logged_model", "delete_", "finalize_", "log_", "rename_", "set_", "update_")
"""How the methods of an MlflowClient that change something are called: between two of them nothing differs in the store."""


def killing(number: int, *, after: bool) -> None:
    """End this process at the change of that number, before or after it is made."""
    from mlflow import MlflowClient

    changes = 0

    def wrapped(method: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            nonlocal changes
            changes += 1
            mine = changes == number
            if mine and not after:
                os._exit(KILLED)
            result = method(*given, **named)
            if mine:
                os._exit(KILLED)
            return result

        return call

    for name, method in list(vars(MlflowClient).items()):
        if callable(method) and name.startswith(CHANGING):
            setattr(MlflowClient, name, wrapped(method))


def killed_at(number: int, after: bool, act: Callable[[], object]) -> None:
    """`act`, killed on its way."""
    killing(number, after=after)
    act()


def killed_everywhere(
    act: Callable[[], object], prepare: Callable[[], object], check: Callable[[], object], step: int = 1
) -> int:
    """Kill `act` before one change after another, and after the last, each from the state that `prepare` makes.

    `check` holds what is left. `step`: every how manieth change; `make fuzz` takes all.

    Returns:
        How many kills there were.
    """
    kills, number, step = 0, 1, 1 if many(12) > 12 else step

    def fate(number: int, after: bool) -> int:
        prepare()
        ends = ended(child(partial(killed_at, number, after, act)))
        assert ends in (0, KILLED), f"change {number}: ended with {ends}"
        if ends == KILLED:
            assert ended(child(check)) == 0, f"killed {'after' if after else 'before'} change {number}"
        return ends

    while fate(number, after=False) == KILLED:
        kills, number = kills + 1, number + step
    last = next(one for one in range(number - 1, 0, -1) if step == 1 or fate(one, after=False) == KILLED)
    assert fate(last, after=True) == KILLED
    return kills + 1


def test_a_registration_that_is_killed_at_any_call_leaves_a_true_registry_that_the_next_one_finishes(
    place: tuple[Path, str],
) -> None:
    folder, uri = place
    model(folder / "old", 1, 0.5)
    model(folder / "new", 2, 0.6)
    assert ended(child(lambda: enter(folder / "old", uri, "killed"))) == 0
    restore = kept_state(folder)

    def prepare() -> None:
        restore()
        shutil.rmtree(folder / "new" / "register", ignore_errors=True)

    def check() -> None:
        registry = Registry("killed", uri=uri)
        champion = registry.by_alias(contracts.CHAMPION)
        assert champion is not None
        assert champion.tags[GATE].startswith("passed")
        assert PROMOTION in champion.tags
        assert not (folder / "new" / "register").exists()
        report = enter(folder / "new", uri, "killed")
        assert contracts.CHAMPION in report.aliases
        assert sorted(path.name for path in (folder / "new").iterdir()) == [
            "evaluate",
            "gate.yaml",
            "register",
            "train",
        ]
        versions = registry.versions()
        digests = [version.tags[DIGEST] for version in versions]
        assert len(set(digests)) == len(digests) == 2
        assert promotion.roll_back(registry).figures["arousal_r"] == 0.5  # and what it replaced can come back

    kills = killed_everywhere(lambda: enter(folder / "new", uri, "killed"), prepare, check, step=6)
    print(f"{kills} kills of register", file=sys.stderr)
    assert kills >= 4


def test_a_promotion_that_is_killed_at_any_call_happened_or_did_not(place: tuple[Path, str]) -> None:
    folder, uri = place
    for index in range(2):
        model(folder / f"{index}", index, 0.5 + index / 100)
        assert ended(child(partial(enter, folder / f"{index}", uri, "half"))) == 0

    def back_to_the_first() -> None:
        promotion.roll_back(Registry("half", uri=uri))

    assert ended(child(back_to_the_first)) == 0
    restore = kept_state(folder)

    def promote() -> None:
        registry = Registry("half", uri=uri)
        with registry.alone():
            promotion.promote(registry, "2")

    def check() -> None:
        registry = Registry("half", uri=uri)
        champion = registry.by_alias(contracts.CHAMPION)
        assert champion is not None
        if champion.version == "2":
            assert ROLLED_BACK_AT not in champion.tags
        promote()
        champion = registry.by_alias(contracts.CHAMPION)
        assert champion is not None
        assert (champion.version, ROLLED_BACK_AT in champion.tags) == ("2", False)
        assert promotion.roll_back(registry).version == "1"

    kills = killed_everywhere(promote, restore, check)
    print(f"{kills} kills of promote", file=sys.stderr)
    assert kills >= 8


def test_a_roll_back_that_is_killed_at_any_call_happened_or_did_not(place: tuple[Path, str]) -> None:
    folder, uri = place
    for index in range(2):
        model(folder / f"{index}", index, 0.5 + index / 100)
        assert ended(child(partial(enter, folder / f"{index}", uri, "back"))) == 0
    restore = kept_state(folder)

    def roll_back() -> None:
        registry = Registry("back", uri=uri)
        with registry.alone():
            promotion.roll_back(registry)

    def check() -> None:
        registry = Registry("back", uri=uri)
        assert registry.by_alias(contracts.CHAMPION) is not None  # whoever composes just now has a model
        with registry.alone():
            promotion.repair(registry)  # as every command does first
        champion, second = registry.by_alias(contracts.CHAMPION), registry.by_version("2")
        assert champion is not None
        happened = champion.version == "1"
        assert (ROLLED_BACK_AT in second.tags) is happened
        assert [one.kind for one in showing.history(registry)] == ["promote", "promote", *["rollback"] * happened]
        if not happened:
            roll_back()
        champion = registry.by_alias(contracts.CHAMPION)
        assert champion is not None
        assert champion.version == "1"
        assert registry.by_alias(contracts.PREVIOUS) is None
        with registry.alone():
            promotion.promote(registry, "2")  # by name

    kills = killed_everywhere(roll_back, restore, check)
    print(f"{kills} kills of rollback", file=sys.stderr)
    assert kills >= 7


def test_a_registry_that_another_process_locks_is_one_line_and_nothing_is_changed(place: tuple[Path, str]) -> None:
    folder, uri = place
    model(folder / "0", 0, 0.5)
    assert ended(child(lambda: enter(folder / "0", uri, "locked"))) == 0
    model(folder / "1", 1, 0.6)

    def refused() -> None:
        with pytest.raises(UserError, match="another process writes") as caught:
            enter(folder / "1", uri, "locked")
        assert "\n" not in str(caught.value)

    with contextlib.closing(sqlite3.connect(folder / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        held(refused)
        other.execute("ROLLBACK")
    assert not (folder / "1" / "register").exists()
    assert ended(child(lambda: enter(folder / "1", uri, "locked"))) == 0

    def check() -> None:
        registry = Registry("locked", uri=uri)
        assert [one.version for one in registry.versions()] == ["1", "2"]
        assert [one.kind for one in showing.history(registry)] == ["promote", "promote"]

    held(check)
