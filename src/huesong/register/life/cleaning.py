"""What nobody needs any more: logged models that became no version, and versions that were retired."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huesong import contracts
from huesong.register.life import promotion
from huesong.register.registry import RETIRED_AT, Registry, answered, logged_model_of
from huesong.tracking import store


@dataclass(frozen=True)
class Leftover:
    """A retired version (`version`) or a logged model that is no version's (`model_id`)."""

    what: str
    version: str | None = None
    model_id: str | None = None


def leftovers(registry: Registry, experiment: str, hours: float) -> list[Leftover]:
    """What `clean` would remove.

    Args:
        registry: the registered model.
        experiment: its experiment; logged models elsewhere are not looked at.
        hours: a logged model must be so old, since a registration may just now be making a version of it.
    """
    versions = registry.versions()
    found = [
        Leftover(f"{one.uri}, retired since {one.tags[RETIRED_AT][:10]}", version=one.version)
        for one in versions
        if RETIRED_AT in one.tags and not registry.aliases(one.version)
    ]
    with answered(registry.uri), store.http_limits():
        where = registry.client.get_experiment_by_name(experiment)
        models = _logged_models(registry.client, where.experiment_id) if where else []
        used, places = _in_use(registry.client)
    before = (time.time() - hours * 3600) * 1000
    found += [
        Leftover(f"logged model {one.model_id}, of no version", model_id=one.model_id)
        for one in models
        if one.name == contracts.MODEL_NAME
        and one.creation_timestamp <= before
        and one.model_id not in used
        and one.artifact_location not in places
    ]
    return found


def clean(registry: Registry, left: Leftover) -> None:
    """Remove a leftover; the files of a retired version go with the logged model that it was made of."""
    if left.version is not None:
        version = registry.by_version(left.version)
        location = registry.location(version)
        promotion.remove(registry, left.version, "it was retired")
        with answered(registry.uri), store.http_limits():
            used, places = _in_use(registry.client)
        if version.model_id is None or version.model_id in used or location in places:
            return
        registry.forget(version.model_id)
    else:
        assert left.model_id is not None
        registry.forget(left.model_id)


def _in_use(client: Any) -> tuple[set[str], set[str]]:
    """The logged models that versions of any name were made of: their ids; and where the files of all other versions lie."""
    versions = _all_of(lambda token: client.search_model_versions("", max_results=1000, page_token=token))
    made_of = {(one.name, one.version): logged_model_of(one.source) for one in versions}
    places = {client.get_model_version_download_uri(*one) for one, model_id in made_of.items() if model_id is None}
    return {model_id for model_id in made_of.values() if model_id is not None}, places


def _logged_models(client: Any, experiment: str) -> list[Any]:
    return _all_of(lambda token: client.search_logged_models([experiment], max_results=100, page_token=token))


def _all_of(page_at: Callable[[str | None], Any]) -> list[Any]:
    """What is on all pages of an answer."""
    found: list[Any] = []
    token: str | None = ""
    while token is not None:
        page = page_at(token or None)
        found, token = [*found, *page], page.token or None
    return found
