"""`huesong status`: where the latest artifacts of every stage are, and which model composes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from huesong import contracts
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.tracking import store


def describe(folder: Path, root: Path | None = None) -> str:
    """Lines naming each stage's folder, its age, its report, and the versions of the registry.

    Args:
        folder: the stages' artifacts.
        root: the checkout whose registry is asked, if MLFLOW_TRACKING_URI names none; None: the current folder.

    Raises:
        UserError: `folder` holds no artifacts at all.
    """
    lines = []
    for stage in contracts.STAGES:
        path = folder / stage
        if not path.is_dir():
            lines.append(f"{stage:<11} not run yet")
            continue
        when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        pages = [page for name in (contracts.VALIDATION_HTML, contracts.REPORT) if (page := path / name).exists()]
        lines.append(f"{stage:<11} {when}  {path}" + "".join(f"\n{'':<11} report  {page}" for page in pages))
    if not any((folder / stage).is_dir() for stage in contracts.STAGES):
        raise UserError(f"no artifacts in {folder}: run `dvc repro` first, or name their folder with --artifacts")
    registration = folder / "register" / contracts.REGISTRATION
    name = contracts.MODEL_NAME
    if registration.exists():
        entry = artifacts.read_json(registration, "huesong register")
        name = entry["name"]
        lines.append(f"{'model':<11} models:/{name}/{entry['version']}")
    try:
        lines += [f"{title:<11} {text}" for title, text in standing(name, root or Path.cwd())]
    except UserError as error:
        lines.append(f"{'registry':<11} {error}")
    return "\n".join(lines)


def standing(name: str, root: Path) -> Iterator[tuple[str, str]]:
    """The champion, the challenger and why it is not champion, and what composes where no model is named.

    Raises:
        UserError: the registry does not answer, or there is no model at all.
    """
    from huesong.register.card import trained_on
    from huesong.register.registry import GATE, PROMOTED_AT, PROMOTED_WHY, ROLLED_BACK_AT, Registry
    from huesong.register.shipped import default_model, rated_pictures_of

    uri = store.tracking_uri(root)
    database = store.sqlite_path(uri)
    if database is not None and not database.is_file():
        yield "registry", f"none yet at {database}: `huesong register` registers the model that was trained"
    else:
        registry = Registry(name, uri=uri)
        champion, challenger = (registry.by_alias(alias) for alias in (contracts.CHAMPION, contracts.CHALLENGER))
        if champion:
            since, why = champion.tags.get(PROMOTED_AT, "")[:16].replace("T", " "), champion.tags.get(PROMOTED_WHY, "")
            rated = trained_on(rated_pictures_of(registry, champion))
            yield "champion", f"{champion.uri}, since {since} UTC{f' ({why})' if why else ''}; {rated}"
        else:
            yield "champion", "none"
        if challenger and (champion is None or challenger.version != champion.version):
            verdict = challenger.tags.get(GATE, "was never asked")
            why = "it was rolled back; " if ROLLED_BACK_AT in challenger.tags else ""
            yield "challenger", f"{challenger.uri}, not champion: {why}the gate {verdict}"
    yield "composes", default_model(root)[1]
