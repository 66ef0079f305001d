"""`huesong experiment ...`: questions that take many runs of the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huesong.cli.options import ARTIFACTS, PARAMS, DataOption, LabelOption, ParamsOption, PreprocessOption

app = typer.Typer(help="Experiments over many training runs.", no_args_is_help=True)


@app.command()
def ablation(
    params: ParamsOption = PARAMS,
    data: DataOption = Path("data"),
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    label: LabelOption = ARTIFACTS / "label",
    out: Annotated[Path, typer.Option(help="Folder of the runs; finished ones are kept.")] = Path("ablation"),
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds a variant.")] = 3,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="One variant, or ce+va_head@0.25 for another VA weight; repeatable. Default: all."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Markdown file whose part between <!-- ablation --> markers is replaced.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="--no-train: the table of the runs that are finished.")
    ] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, in a process each.")] = 1,
) -> None:
    """Compare the objectives, from one shared base, on the same requests.

    Trains and judges each objective with several seeds; a run that was interrupted goes on where it stopped. Writes a
    table, a chart, and a plain verdict on every objective against cross-entropy alone.
    """
    from huesong.config import load_params
    from huesong.experiments.ablation import VARIANTS, run

    made = run(
        load_params(params), data=data, preprocess=preprocess, label=label, out=out, seeds=seeds,
        variants=variant or list(VARIANTS), report=report, trains=train, jobs=jobs,
    )  # fmt: skip
    for path in made.files:
        typer.echo(str(path))


@app.command()
def results(
    artifacts: Annotated[Path, typer.Option(help="Artifacts of a whole run.")] = ARTIFACTS,
    report: Annotated[
        Path | None, typer.Option(help="Markdown file whose part between the markers is replaced; default: print.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="The markers are <!-- PART --> and <!-- /PART -->; default: the file's name.")
    ] = None,
) -> None:
    """Print the tables of a whole run (labellers, judges, model, baselines, goals), or put them into a page.

    The page's calibration plot, `images/calibration.png` beside it, is replaced too where it is shown with this part.
    """
    from huesong.experiments.results_page import CALIBRATION, markdown
    from huesong.report.tables import put_into, put_picture

    page = markdown(artifacts)
    if report is None:
        typer.echo(page, nl=False)
    else:
        part = part or report.stem
        put_into(report, part, page)
        put_picture(report, part, artifacts / CALIBRATION, "calibration.png")
        typer.echo(str(report))


@app.command()
def structure(
    data: Annotated[Path, typer.Argument(help="Folder that holds music_unlabelled/ and music_annotated/.")],
    report: Annotated[
        Path | None, typer.Option(help="Markdown file whose part between <!-- form --> markers is replaced.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split whose pieces are scored: train or val.")] = "val",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pieces of each set.")] = None,
    learn: Annotated[bool, typer.Option(help="First learn the package's statistics anew, from split train.")] = False,
) -> None:
    """Hold plans that are read from notes against those of people: chords, keys, phrases, letters, cadences."""
    from huesong.experiments.structure import page
    from huesong.report.tables import put_into

    if report is not None:
        put_into(report, "form", None)
    if learn:
        typer.echo(str(page.learn(data)))
    text = page.markdown(data, split, limit)
    if report is None:
        typer.echo(text, nl=False)
    else:
        put_into(report, "form", text)
        typer.echo(str(report))
