"""The model card: what a model is, what it was made from, how good it is, and what it is not fit for."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from huesong import __version__
from huesong.register.gate import GateResult
from huesong.report.tables import is_number, measured, table
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA, LOCK_DIGEST

TITLES = {
    "valence_mae": "valence, mean absolute error",
    "valence_r": "valence, correlation",
    "valence_ccc": "valence, concordance",
    "arousal_mae": "arousal, mean absolute error",
    "arousal_r": "arousal, correlation",
    "arousal_ccc": "arousal, concordance",
    "quadrant_accuracy": "quadrant heard as asked (chance: about .25)",
    "grid_valence_ccc": "valence, concordance, on a grid of 25 emotions without pictures",
    "grid_arousal_ccc": "arousal, concordance, on that grid",
    "second_grid_valence_ccc": "valence on that grid, second judge",
    "second_grid_arousal_ccc": "arousal on that grid, second judge",
    "distance_paper": "distance to the data over polyphony rate, pitch entropy, groove (paper's form)",
    "length_within_10_percent": "pieces within 10 % of the asked length",
    "identical_share": "pieces that equal another piece",
    "invalid_tokens": "tokens outside the grammar",
}
JUDGE = {
    "judge_valence_r": "valence, correlation",
    "judge_arousal_r": "arousal, correlation",
    "judge_valence_ccc": "valence, concordance",
    "judge_arousal_ccc": "arousal, concordance",
    "second_judge_valence_ccc": "second judge: valence, concordance",
    "second_judge_arousal_ccc": "second judge: arousal, concordance",
}
PROVENANCE = {
    "huesong.version": "huesong",
    DATA_DIGEST: "data (DVC md5)",
    GIT_SHA: "git commit",
    LOCK_DIGEST: "dvc.lock (SHA-256)",
}
PICTURES = "pictures"
"""The kind of a row of `training.data` that counts pictures."""
RATED = ("mean_rating", "mean_slider")
"""Kinds of labels that are means of people's ratings."""
LIMITS = """\
* It writes solo piano pieces of seconds to a few minutes; no voices, no other instruments, no drums.
* Valence and arousal are averages over raters. What one listener feels can differ; so can what another culture hears.
* The judge is a model too: no figure above means more than the judge's own scores on held-out music.
* Its training data are under the licences named above; check that they allow your use of what it writes.
* It says nothing about the people in a picture and must not be used to infer anyone's feelings."""
BUILT_IN = (
    "* Part of the rated music was composed by rule (labels `construction`). The judges know those rules better than they "
    "know people: the figures above are those of an easier task than music that only people have rated."
)


def model_card(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    provenance: Mapping[str, str],
    gate: GateResult | None = None,
) -> str:
    """The card as Markdown.

    Args:
        config: the model folder's config.json. Where `training.data` lists rows of `source`, `licence`, `label_kind`
            and a count, they become the data table.
        metrics: artifacts/evaluate/figures.json; `<key>_low` and `<key>_high` are printed as the interval of `<key>`.
        provenance: tags of tracking.provenance.
        gate: the gate's checks, if there were any.
    """
    training = config.get("training", {})
    made = [(title, f"`{provenance[tag]}`") for tag, title in PROVENANCE.items() if tag in provenance]
    parts = [
        "# huesong: piano music for a picture's emotion",
        "A CNN-Transformer that composes MIDI for the valence and arousal of a picture (or for given ones), trained, "
        f"evaluated and registered by huesong {training.get('huesong', __version__)}. Both axes run from -1 to 1.",
        "## Model",
        bullets(_architecture(config)),
        "## Data",
        _data(training.get("data")),
        *(["## Made from", bullets(made)] if made else []),
        "## Emotion asked for and heard",
        f"{_count(metrics)} Brackets: bootstrap 95 % intervals.",
        measured(metrics, TITLES),
        f"The judge itself, on rated music it never saw{_n(metrics, 'judge_n', ' (n = {:g})')}:"
        if metrics.get("judge_n")
        else "The judge itself, on music it never saw, whose emotion is known by quadrant (concordance with its centre):",
        measured(metrics, JUDGE if metrics.get("judge_n") else _by_quadrant(metrics)),
        "## Limits",
        "\n".join([LIMITS, BUILT_IN] if _has_built_in(training.get("data")) else [LIMITS]),
    ]
    if gate is not None:
        verdict = (
            "It passed the promotion gate." if gate.passed else f"It did not pass the promotion gate ({gate.summary})."
        )
        parts += ["## Promotion gate", verdict, f"```\n{gate.table()}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _by_quadrant(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Titles of the judges' figures of sources with nominal labels, the only ones where nobody rated held-out music."""
    judges = {"judge": "first judge", "second_judge": "second judge"}
    sources = sorted(key[6:-12] for key in metrics if key.startswith("judge_") and key.endswith("_valence_ccc"))
    return {
        f"{judge}_{source}_{figure}": f"{source}, {name}: {title}"
        for source in sources
        for judge, name in judges.items()
        for figure, title in (
            ("valence_ccc", "valence"), ("arousal_ccc", "arousal"), ("quadrant_accuracy", "quadrant as labelled"),
        )
    }  # fmt: skip


def rated_pictures(config: Mapping[str, Any]) -> int:
    """How many pictures with a mean of people's ratings a model learnt from, by its config.json."""
    rows = config.get("training", {}).get("data") or []
    return sum(int(row.get("items", 0)) for row in rows if row.get("kind") == PICTURES and row.get("labels") in RATED)


def built_only(config: Mapping[str, Any]) -> bool:
    """Whether all that a model learnt emotion from was made with it, as in the sample set."""
    labels = {row.get("labels") for row in config.get("training", {}).get("data") or []} - {"none"}
    return labels == {"construction"}


def trained_on(rated: int) -> str:
    """What a number of rated pictures means for who composes, in words."""
    return (
        f"trained on {rated} photographs that people rated" if rated else "trained on no photograph that people rated"
    )


def bullets(pairs: Iterable[tuple[str, Any]]) -> str:
    """`* name: value` lines."""
    return "\n".join(f"* {key}: {value}" for key, value in pairs)


def _architecture(config: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    network, picture = config.get("network", {}), config.get("picture", {})
    settings = config.get("training", {}).get("config", {})
    yield (
        "layers",
        f"{network.get('encoder_layers', '?')} causal encoder + {network.get('decoder_layers', '?')} decoder",
    )
    yield "width and heads", f"{network.get('width', '?')}, {network.get('heads', '?')}"
    yield "context", f"{network.get('context', '?')} tokens, {network.get('positions', '?')} positions"
    yield "vocabulary", f"{config.get('vocabulary', {}).get('size', '?')} tokens (REMI, byte pair encoding)"
    if picture:
        yield "picture", ", ".join(f"{key} {value}" for key, value in picture.items() if value)
    if settings:
        yield "objective", f"{settings.get('objective', '?')}, weight {settings.get('va_weight', '?')}"
        yield "steps", f"{settings.get('steps', '?')} of batch {settings.get('batch_size', '?')}"
        yield "seed", settings.get("seed", "?")


def _data(rows: Any) -> str:
    if not isinstance(rows, list) or not rows:
        return "`images.csv` and `music.csv` of the data version below name the source and the licence of every item."
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return table(columns, [[plain(row.get(column, "")) for column in columns] for row in rows])


def plain(value: object) -> str:
    """Text of a data set as what it is: no HTML, no link and no picture in Markdown."""
    return re.sub(r"([\[\]`\\])", r"\\\1", html.escape(str(value), quote=False))


def _has_built_in(rows: Any) -> bool:
    """Whether music is among the data whose emotion is what it was composed from."""
    return isinstance(rows, list) and any(
        row.get("labels") == "construction" and row.get("kind") == "music segments" for row in rows
    )


def _count(metrics: Mapping[str, Any]) -> str:
    pictures, grid = (_n(metrics, key, ", n = {:g} pieces") for key in ("n", "grid_n"))
    return f"Held-out pictures{pictures}, and a grid of 25 emotions{grid}, heard by independent judges."


def _n(metrics: Mapping[str, Any], key: str, text: str) -> str:
    return text.format(metrics[key]) if is_number(metrics.get(key)) else ""
