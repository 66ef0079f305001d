"""`huesong status`: where the latest artifacts of every stage are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from huesong import contracts
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError


def describe(folder: Path) -> str:
    """Lines naming each stage's folder, its age, its report and the registered model version.

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
    if registration.exists():
        entry = artifacts.read_json(registration, "huesong register")
        aliases = ", ".join(entry["aliases"]) or "no alias"
        lines.append(f"{'model':<11} models:/{entry['name']}/{entry['version']} ({aliases})")
    return "\n".join(lines)
