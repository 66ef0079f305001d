"""The model registry: versions with their files, the aliases `challenger`, `champion` and `previous`, and model URIs.

`challenger` is the version that was registered last, `champion` the one that composes and serves, `previous` the one that
a roll-back makes champion again. What moves them is in register.life.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from huesong import contracts
from huesong.register.lock import file_lock, name_lock
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.tracking import store
from huesong.tracking.provenance import DATA_DIGEST

DIGEST = "huesong.digest"
GATE = "huesong.gate"
FIGURES = "huesong.figures"
"""JSON of the evaluation's figures; of a long one those that the gate asked about. All of them are in the journal."""
RETIRED_AT = "huesong.retired_at"
RATED_PICTURES = "huesong.rated_pictures"
"""How many pictures with people's ratings it learnt from (card.rated_pictures)."""
PROMOTION = "huesong.promotion"
"""The how manieth promotion of this name a version's last one was: clocks of several machines give no order."""
PROMOTED_AT = "huesong.promoted_at"
PROMOTED_WHY = "huesong.promoted_because"
"""That it passed the gate, or the reason of whoever promoted it all the same."""
ROLLED_BACK_AT = "huesong.rolled_back_at"
MOST_OF_A_TAG = 4_900
"""Characters of a tag or a description; databases hold 5,000."""
MODEL_FOLDER = f"artifacts/{contracts.MODEL}"
"""Where the model folder lies inside a logged pyfunc model."""
MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
LOGGED_URI = re.compile(r"models:/(?P<model_id>m-[0-9a-f]+)")


@dataclass(frozen=True)
class Logged:
    """Where a model was logged."""

    model_id: str
    run_id: str


@dataclass(frozen=True)
class Version:
    """A registered version."""

    name: str
    version: str
    run_id: str | None
    model_id: str | None
    source: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """`models:/<name>/<version>`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def figures(self) -> dict[str, float]:
        """The latest evaluation's figures, as the tag has them."""
        return dict(json.loads(self.tags.get(FIGURES, "{}")))

    @property
    def promotion(self) -> tuple[int, str]:
        """Orders what was promoted; (0, "") if it never was. Versions of before the counter come first."""
        return int(self.tags.get(PROMOTION, "0")), self.tags.get(PROMOTED_AT, "")


class Registry:
    """The versions of one registered model.

    Every method raises UserError when the registry does not answer: a registration is never lost in silence.
    """

    def __init__(self, name: str = contracts.MODEL_NAME, *, uri: str | None = None, root: Path | None = None) -> None:
        """Connect to the registry at `uri` (None: MLFLOW_TRACKING_URI, else the sqlite file of the checkout `root`)."""
        self.name, self.root = name, root or Path.cwd()
        self._mine: Callable[[], bool] = lambda: True
        self.uri = store.tracking_uri(self.root, uri)
        if not store.installed():
            raise UserError("the model registry needs MLflow: pip install 'huesong[registry]', or name a model folder")
        with answered(self.uri), store.http_limits():
            self.client = store.connect(self.uri)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        with answered(self.uri):
            found: list[Any] = []
            token: str | None = ""
            while token is not None:
                page = self.client.search_model_versions(
                    f"name='{self.name}'", max_results=200, page_token=token or None
                )
                found, token = [*found, *page], page.token or None
        return sorted((_version(v) for v in found), key=lambda v: int(v.version))

    def by_digest(self, digest: str) -> Version | None:
        """The newest version of the model folder with this digest, None if it was never registered."""
        return next((v for v in reversed(self.versions()) if v.tags.get(DIGEST) == digest), None)

    def by_version(self, version: str) -> Version:
        """The version of that number.

        Raises:
            UserError: there is none.
        """
        from mlflow.exceptions import MlflowException

        if not (version.isascii() and version.isdigit()):
            raise UserError(f"{version} is no version: give its number, as `huesong registry list` shows it")
        with answered(self.uri):
            try:
                return _version(self.client.get_model_version(self.name, version))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        known = ", ".join(v.version for v in self.versions()) or "none"
        raise UserError(f"{self.name} has no version {version} in {store.shown(self.uri)} (versions: {known})")

    def by_alias(self, alias: str) -> Version | None:
        """The version that carries `alias`, None if no version does."""
        from mlflow.exceptions import MlflowException

        with answered(self.uri):
            try:
                return _version(self.client.get_model_version_by_alias(self.name, alias))
            except MlflowException as error:
                # a missing alias is an invalid parameter to MLflow
                if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                    return None
                raise

    def aliases(self, version: str) -> list[str]:
        """The aliases of a version."""
        with answered(self.uri):
            return sorted(self.client.get_model_version(self.name, version).aliases)

    def create(self, logged: Logged, tags: Mapping[str, str], description: str) -> Version:
        """Register a logged model as the next version."""
        from mlflow.exceptions import MlflowException

        # MLflow looks up the source of a version in its default store, whatever the client's is
        with answered(self.uri), store.as_default(self.uri), store.http_limits():
            try:
                self.client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            short = {key: value[:MOST_OF_A_TAG] for key, value in tags.items()}
            given = {"tags": short, "description": brief(description), "model_id": logged.model_id}
            source = f"models:/{logged.model_id}"
            return _version(self.client.create_model_version(self.name, source, logged.run_id, **given))

    def forget(self, model_id: str) -> None:
        """Delete a logged model that is no version's."""
        with answered(self.uri):
            self.client.delete_logged_model(model_id)

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with answered(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, version, key, value[:MOST_OF_A_TAG])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else registers, promotes or rolls back under this name meanwhile. Not to be entered twice."""
        database = store.sqlite_path(self.uri)
        if database is not None:
            with file_lock(database.with_name(f"{database.name}.lock")):
                yield
            return
        with contextlib.ExitStack() as stack:
            with answered(self.uri), store.http_limits():
                self._mine = stack.enter_context(name_lock(self.client, self.name))
            yield

    def check_alone(self) -> None:
        """Refuse to go on if another process took the lock over, as it does after a minute of silence.

        Raises:
            UserError: it did.
        """
        if not self._mine():
            raise UserError(
                f"{self.name}: this took so long that another process went on without it: run the command again"
            )

    def folder(self, version: Version, cache: Path | None = None) -> Path:
        """The model folder of a version on this machine: in place where it is a local file, else fetched once.

        Either way its digest is that of the version.

        Args:
            version: a version of this registry.
            cache: where fetched models are kept, by digest; None: HUESONG_CACHE, else `~/.cache/huesong`.

        Raises:
            UserError: the files are gone, or are not those that were registered.
        """
        location = self.location(version)
        if (local := _local(location)) is not None:
            if not self.intact(version):
                raise UserError(
                    f"{version.uri}: the files in {local / MODEL_FOLDER} are missing or damaged: `huesong register` "
                    "registers the trained model again, `huesong registry rollback` takes the champion before"
                )
            return local / MODEL_FOLDER
        return self._fetch(version, f"{location.rstrip('/')}/{MODEL_FOLDER}", cache or default_cache())

    def intact(self, version: Version) -> bool:
        """Whether the files of a version are still those that were registered, where they need not be fetched for that."""
        local = _local(self.location(version))
        if local is None:
            return True
        digest = version.tags.get(DIGEST)
        return (local / MODEL_FOLDER).is_dir() and digest in (None, artifacts.folder_digest(local / MODEL_FOLDER))

    def location(self, version: Version) -> str:
        """The URI of a version's files."""
        with answered(self.uri):
            return str(self.client.get_model_version_download_uri(self.name, version.version))

    def _fetch(self, version: Version, location: str, cache: Path) -> Path:
        digest = version.tags.get(DIGEST, "")
        kept = cache / "models" / (digest or f"{version.name}-{version.version}-{version.model_id}")
        if kept.is_dir():
            return kept
        from mlflow.artifacts import download_artifacts

        gone = f"{version.uri} cannot be fetched (register the model again if its files are gone): "
        with (
            artifacts.replacing_folder(kept) as work,
            answered(self.uri, gone),
            store.http_limits(timeout_s=60, retries=2),
        ):
            fetched = Path(download_artifacts(artifact_uri=location, dst_path=str(work), tracking_uri=self.uri))
            if digest and artifacts.folder_digest(fetched) != digest:
                raise UserError(
                    f"{version.uri}: the fetched files are not those that were registered; register it again"
                )
            if fetched != work:
                for path in list(fetched.iterdir()):
                    path.rename(work / path.name)
                fetched.rmdir()
        return kept


def resolve_model(uri: str, *, tracking_uri: str | None = None, root: Path | None = None) -> Path:
    """The local model folder of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Args:
        uri: the registry URI.
        tracking_uri: the registry; None: MLFLOW_TRACKING_URI, else the sqlite file of the checkout `root`.
        root: the checkout; None: the current folder.

    Raises:
        UserError: not such a URI, no registry, no such version, or its files are gone.
    """
    match = MODEL_URI.fullmatch(uri)
    if match is None:
        known = f"models:/{contracts.MODEL_NAME}@{contracts.CHAMPION} or models:/{contracts.MODEL_NAME}/3"
        raise UserError(f"{uri!r} is no model URI: write {known}, or name a model folder")
    where = store.tracking_uri(root or Path.cwd(), tracking_uri)
    check_there(where, ", or name a model folder with --model")
    registry = Registry(match["name"], uri=where)
    if match["version"]:
        return registry.folder(registry.by_version(match["version"]))
    found = registry.by_alias(match["alias"])
    if found is None:
        known = ", ".join(v.uri for v in registry.versions()[-3:])
        raise UserError(
            f"no version of {match['name']} in {store.shown(where)} has the alias {match['alias']}: "
            "run `dvc repro` (`huesong register` where it says up to date), or name a version "
            f"({known or 'there is none yet'}) or a model folder with --model"
        )
    return registry.folder(found)


def check_there(uri: str, otherwise: str = "") -> None:
    """Refuse (UserError) a sqlite file that is not there: whoever only asks makes no empty registry."""
    database = store.sqlite_path(uri)
    if database is not None and not database.is_file():
        raise UserError(
            f"no model registry at {database}: run `dvc repro` first (`huesong register` where it says up to date){otherwise}"
        )


@contextlib.contextmanager
def answered(uri: str, what: str = "") -> Iterator[None]:
    """Turn the errors of a store that does not answer into the user's one line, which begins with `what` was asked for."""
    try:
        yield
    except UserError:
        raise
    except store.errors() as error:
        raise UserError(
            f"the model registry at {store.shown(uri)} failed: {what}{store.one_line(error)}; {store.remedy(error)}"
        ) from error


def brief(text: str) -> str:
    """`text`, or as many of its first lines as every database holds, and where the rest is."""
    if len(text) <= MOST_OF_A_TAG:
        return text
    rest = "\n\nThe rest of this card is README.md among the version's files."
    shown = text[: MOST_OF_A_TAG - len(rest) - 4]
    shown = shown.rsplit("\n", 1)[0]
    return shown + ("\n```" if shown.count("```") % 2 else "") + rest


def same_data(version: Version, tags: Mapping[str, str]) -> bool:
    """Whether a version was made from the data version in `tags`; unknown versions count as the same."""
    theirs, ours = version.tags.get(DATA_DIGEST), tags.get(DATA_DIGEST)
    return theirs is None or ours is None or theirs == ours


def default_cache() -> Path:
    """Where fetched models are kept."""
    return Path(os.environ.get("HUESONG_CACHE") or Path.home() / ".cache" / "huesong")


def _local(location: str) -> Path | None:
    """The folder of a `file:` location, None for any other."""
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def logged_model_of(source: str) -> str | None:
    """Id of the logged model that a version was made of; None where its source is another one. MLflow keeps it there alone."""
    match = LOGGED_URI.fullmatch(source)
    return match["model_id"] if match else None


def _version(found: Any) -> Version:
    model_id = logged_model_of(found.source)
    return Version(found.name, str(found.version), found.run_id, model_id, found.source, dict(found.tags))
