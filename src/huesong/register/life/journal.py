"""The journal of a registered model: every decision about its versions, a file each, in one MLflow run.

It outlives aliases and tags. A decision is written before anything is changed, together with all that it changes
(`effects`), and the run's tag DONE says afterwards how far they were carried out: what a killed command began, the next
one finishes (write-ahead log). Whoever writes holds the registry's lock.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huesong import __version__
from huesong.runtime.errors import UserError, redacted
from huesong.runtime.progress import log
from huesong.tracking import store
from huesong.tracking.sessions import user_name

JOURNAL = "huesong.journal"
"""Tag of the registered model: the run that holds its journal."""
DONE = "huesong.done"
"""Tag of that run: the number of the last decision that was carried out."""
DECISION = "huesong.decision"
"""Tag of a version: the file of the decision in which it was registered, or registered again."""
FOLDER = "decisions"
KINDS = {
    "promote": "is the champion now",
    "refuse": "was registered and not promoted",
    "keep": "was registered again and stays as it is",
    "rollback": "is the champion again",
    "withdraw": "stays as it is: the decision was taken back",
    "retire": "was retired",
    "remove": "was removed from the registry",
    "found": "was found as the champion: an alias was moved without a decision",
}
"""Kind of a decision -> what it says of its version."""


@dataclass(frozen=True)
class Decision:
    """What was decided about a version, by whom, when, why and on what grounds; and what that changes.

    champion: the champion after it (None: none), champion_before: the one until then. verdict: the gate's checks, line
    by line. effects: `tags` (version -> tag -> value, None = delete), `aliases` (alias -> version, None = delete) and
    `remove` (a version), in the order in which they are done.
    """

    kind: str
    version: str
    champion_before: str | None
    champion: str | None
    reason: str
    forced: bool = False
    registered: bool = False
    verdict: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    judge: str = ""
    effects: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    id: str = ""
    at: str = ""
    who: str = ""
    huesong: str = ""

    @property
    def name(self) -> str:
        """Of its file; names sort as the decisions were taken."""
        return f"{self.number:06d}-{self.id}.json"

    def __str__(self) -> str:
        forced = " by force" if self.forced else ""
        return (
            f"{self.number:>4}  {self.at[:19]}Z  {self.who:<16}  {self.kind + forced:<16}  version {self.version} "
            f"{KINDS.get(self.kind, '')}; champion {self.champion_before or 'none'} -> {self.champion or 'none'}; {self.reason}"
        )


class Journal:
    """The decisions about one registered model."""

    def __init__(self, client: Any, name: str, uri: str, root: Path) -> None:
        self.client, self.name, self.uri, self.root = client, name, uri, root
        self._id: str | None = None

    def names(self) -> list[str]:
        """The decisions' files, oldest first; none where there is no journal yet."""
        if (run := self._run()) is None:
            return []
        found = self.client.list_artifacts(run, FOLDER)
        return sorted(Path(file.path).name for file in found if file.path.endswith(".json"))

    def read(self, name: str) -> Decision | None:
        """The decision in a file; None where it cannot be read, as one is left whose writing was cut short."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = self.client.download_artifacts(self._run(), f"{FOLDER}/{name}", folder)
                return Decision(**json.loads(Path(path).read_text(encoding="utf-8")))
            except (ValueError, TypeError):
                log.warning("%s: the decision %s cannot be read and counts as never taken", self.name, name)
                return None

    def decisions(self) -> list[Decision]:
        """All that can be read, oldest first."""
        return [one for name in self.names() if (one := self.read(name)) is not None]

    def last(self) -> Decision | None:
        """The latest decision that can be read."""
        return next((one for name in reversed(self.names()) if (one := self.read(name)) is not None), None)

    def done(self) -> int:
        """The number of the last decision that was carried out; 0: none."""
        run = self._run()
        return int(self.client.get_run(run).data.tags.get(DONE, "0")) if run else 0

    def write(self, decision: Decision) -> Decision:
        """Add a decision: numbered, dated and signed. It is not carried out yet."""
        names = self.names()
        signed = replace(
            decision, number=int(names[-1].split("-")[0]) + 1 if names else 1, id=uuid.uuid4().hex[:8], at=now(),
            who=user_name(), huesong=__version__, reason=redacted(decision.reason),
        )  # fmt: skip
        self._put(signed)
        return signed

    def carry_out(self, decision: Decision) -> None:
        """Set the tags and aliases of a decision; harmless where that was done before, in part or whole."""
        if self.names()[-1] != decision.name:  # the lock was taken over from one of the two: the later name holds
            self.withdraw(decision)
            raise UserError(f"{self.name}: another decision was taken meanwhile: run the command again")
        if decision.registered:
            self.client.set_model_version_tag(self.name, decision.version, DECISION, decision.name)
        for version, tags in decision.effects.get("tags", {}).items():
            for key, value in tags.items():
                if value is None:
                    with _may_be_gone():
                        self.client.delete_model_version_tag(self.name, version, key)
                else:
                    self.client.set_model_version_tag(self.name, version, key, value)
        for alias, version in decision.effects.get("aliases", {}).items():
            if version is None:
                with _may_be_gone():
                    self.client.delete_registered_model_alias(self.name, alias)
            else:
                self.client.set_registered_model_alias(self.name, alias, version)
        if (gone := decision.effects.get("remove")) is not None:
            with _may_be_gone():
                self.client.delete_model_version(self.name, gone)
        self.client.set_tag(self._run(), DONE, str(decision.number))

    def withdraw(self, decision: Decision) -> Decision:
        """Say that a decision was written and never holds."""
        withdrawn = replace(decision, kind="withdraw", champion=decision.champion_before, effects={})
        self._put(withdrawn)
        if self.names()[-1] == decision.name:
            self.client.set_tag(self._run(), DONE, str(decision.number))
        return withdrawn

    def _put(self, decision: Decision) -> None:
        text = json.dumps(asdict(decision), indent=1, sort_keys=True, allow_nan=False)
        self.client.log_text(self._run() or self._new_run(), text + "\n", f"{FOLDER}/{decision.name}")

    def _run(self) -> str | None:
        from mlflow.exceptions import MlflowException

        if self._id is not None:
            return self._id
        try:
            tags: Mapping[str, str] = self.client.get_registered_model(self.name).tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        self._id = tags.get(JOURNAL)
        return self._id

    def _new_run(self) -> str:
        where = store.experiment_id(self.client, f"{self.name} decisions", self.uri, self.root)
        tags = {"mlflow.user": user_name(), "mlflow.source.name": "huesong registry", DONE: "0"}
        run = str(self.client.create_run(where, tags=tags, run_name=f"decisions about {self.name}").info.run_id)
        self.client.set_terminated(run)
        self.client.set_registered_model_tag(self.name, JOURNAL, run)
        self._id = run
        return run


def now() -> str:
    """This moment, as sortable text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextlib.contextmanager
def _may_be_gone() -> Iterator[None]:
    """For what is to be deleted: it is no error where it is not there."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
