"""`huesong settings ...`: write a complete params.yaml from a preset; show what differs from the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from huesong.cli.options import console
from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    from huesong.config import Section

app = console("Choose a preset; see what differs from the defaults.")

PRESETS = Path("presets")
DOCS = {
    "preprocess": "docs/data.md", "label": "docs/data.md", "train": "docs/model.md", "evaluate": "docs/evaluation.md",
    "register": "docs/pipeline.md",
}  # fmt: skip
"""The page about the keys of each section."""


@app.command("use")
def use_(
    name: Annotated[str, typer.Argument(help="A file of presets/ without .yaml, such as cpu, or any params file.")],
    out: Annotated[Path, typer.Option("--out", help="The params file to write.")] = Path("params.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace values of your own, too.")] = False,
) -> None:
    """Write the complete params.yaml of a preset, defaults included.

    A file whose values are those of a preset is replaced; one with values of your own only with --force.
    """
    from huesong.config import load_params
    from huesong.runtime.files import replacing_file

    source = _preset(name)
    text = complete(load_params(source), name)
    if out.exists() and not force and (own := own_values(out)):
        raise UserError(
            f"{out} has values of your own ({own}): commit it or keep a copy, then give --force to replace it"
        )
    with replacing_file(out) as part:
        part.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: the settings of {source}")


@app.command("diff")
def diff_(
    file: Annotated[Path, typer.Argument(help="The params file.")] = Path("params.yaml"),
) -> None:
    """Show the keys whose values are not the defaults: key, value, default."""
    from huesong.config import Params, load_params

    defaults = values(Params())
    rows = [(key, str(value), str(defaults[key])) for key, value in changed(load_params(file), Params()).items()]
    if not rows:
        typer.echo(f"{file}: every value is the default")
        return
    widths = [max(len(row[column]) for row in [*rows, HEAD]) for column in range(3)]
    for row in [HEAD, *rows]:
        typer.echo("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


HEAD = ("key", "value", "default")


def _preset(name: str) -> Path:
    """The file of a preset, by its name or its path."""
    for path in (PRESETS / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in sorted(PRESETS.glob("*.yaml")))
    raise UserError(
        f"there is no preset '{name}' ({f'known: {known}' if known else 'no folder presets/ here'}) and no file of that "
        "name: give one of them, at the top of a huesong checkout"
    )


def complete(settings: Section, name: str) -> str:
    """The text of a params file that holds every key, in the order of config.py.

    Args:
        settings: all sections.
        name: of the preset, for the first line.
    """
    import yaml

    lines = [
        f"# Every setting with its value, written by `huesong settings use {name}`. Change values here; `huesong settings diff`",
        "# shows what differs from the defaults. src/huesong/config.py explains every key.",
    ]
    for stage, section in _tree(settings).items():
        lines += [f"# {stage}: {DOCS[stage]}", yaml.safe_dump({stage: section}, sort_keys=False).rstrip()]
    return "\n".join(lines) + "\n"


def _tree(section: Section) -> dict[str, Any]:
    """The keys of a section and its parts as YAML holds them; pydantic's own dump leaves `compile: false` out."""
    from huesong.config import Section

    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if not field.exclude:
            plain = list(value) if isinstance(value, tuple) else value
            found[field.alias or name] = _tree(value) if isinstance(value, Section) else plain
    return found


def values(section: Section) -> dict[str, Any]:
    """Every setting by its dotted key, such as train.network.width."""

    def flat(tree: dict[str, Any], above: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in tree.items():
            found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
        return found

    return flat(_tree(section), "")


def changed(settings: Section, base: Section) -> dict[str, Any]:
    """The settings, by dotted key, that are not those of `base`."""
    before = values(base)
    return {key: value for key, value in values(settings).items() if value != before[key]}


def own_values(path: Path) -> str:
    """The first values in which a params file differs from the preset nearest to it; empty if it is one."""
    from huesong.config import Params, load_params

    given = load_params(path)
    known = [Params(), *(load_params(preset) for preset in sorted(PRESETS.glob("*.yaml")))]
    own = min((changed(given, preset) for preset in known), key=len)
    shown = [f"{key} = {value}" for key, value in own.items()]
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
