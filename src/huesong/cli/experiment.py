"""`huesong experiment ...`: questions that take many runs of the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huesong.cli.options import ARTIFACTS, PARAMS, DataOption, LabelOption, ParamsOption, PreprocessOption, console

app = console("Experiments over many training runs.")


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
def quality(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Model folders; none: baselines and real music alone.")
    ] = None,
    params: ParamsOption = PARAMS,
    data: DataOption = Path("data"),
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    music: Annotated[
        Path | None, typer.Option(help="Data folder of the real sets to compare with. Default: --data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pieces, which are used again, and figures.")] = Path(
        "quality"
    ),
    seconds: Annotated[
        list[float] | None, typer.Option(help="Lengths; repeatable. Default: 15, 30, 60 and 120.")
    ] = None,
    n: Annotated[int, typer.Option("--pieces", min=5, help="Pieces a model, settings and length.")] = 200,
    pictures: Annotated[
        bool, typer.Option("--pictures/--grid", help="Ask by test pictures, or by 25 emotions.")
    ] = False,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="Settings of the sampler, such as guidance=1,temperature=0.8; repeatable. Default: evaluate.sampling."
        ),
    ] = None,
) -> None:
    """Measure form, line, harmony and phrase of composed pieces beside baselines and real music of each set.

    Composed pieces stay as MIDI in the folder: a run that was interrupted goes on there, and other figures cost little.
    """
    from huesong.config import load_params
    from huesong.experiments.quality.arms import arms_of
    from huesong.experiments.quality.run import Plan, run

    settings = load_params(params).evaluate
    plan = Plan(
        tuple(seconds or Plan.seconds), n, "pictures" if pictures else "grid", settings.seed,
        bootstrap=settings.bootstrap, workers=settings.workers,
    )  # fmt: skip
    arms = arms_of(models or [], arm or [], settings.sampling)
    page = run(arms, plan, data=data, preprocess=preprocess, out=out, music=music)
    typer.echo(str(page))


@app.command()
def maps(
    model: Annotated[Path, typer.Argument(help="A model folder with the encoder of --preprocess.")],
    params: ParamsOption = PARAMS,
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    label: LabelOption = ARTIFACTS / "label",
    out: Annotated[Path, typer.Option(help="Folder of the pieces; finished ones are kept.")] = Path("maps"),
    seconds: Annotated[float, typer.Option(min=4, help="Length of a piece.")] = 12.0,
    candidates: Annotated[int, typer.Option(min=1, help="Best of so many.")] = 2,
    most: Annotated[int, typer.Option(min=2, help="At most so many pictures.")] = 1000,
    report: Annotated[
        Path | None, typer.Option(help="Markdown file whose part between <!-- maps --> markers is replaced.")
    ] = None,
) -> None:
    """Compare what a model can ask of the music for a picture, by the music that comes of it.

    Composes for the validation pictures under each map of label.request_map, and with other image tokens or none; both
    judges say how the music agrees with people's ratings of the pictures.
    """
    from huesong.config import SamplingConfig, load_params
    from huesong.evaluate.stage import train_judges
    from huesong.experiments.pictures.maps import run, token_losses, tokens_said
    from huesong.report.tables import put_into

    if report is not None:
        put_into(report, "maps", None)
    settings = load_params(params).evaluate
    sampling = SamplingConfig(seconds=seconds, candidates=candidates, steering=4)
    page = run(model, preprocess, out, sampling, lambda: train_judges(settings, preprocess), most=most)
    page += "\n" + tokens_said(token_losses(model, preprocess, label))
    if report is None:
        typer.echo(page, nl=False)
    else:
        put_into(report, "maps", page)
        typer.echo(str(report))


@app.command()
def readers(
    data: DataOption = Path("data"),
    params: ParamsOption = PARAMS,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="Encoders, the base first; repeatable. Default: efficientnet_lite2, 0 and 1."),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="CSV with an id column and numbers that another tool found in the pictures; repeatable."),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder for features, which are computed once.")] = Path("readers"),
    report: Annotated[
        Path | None, typer.Option(help="Markdown file whose part between <!-- readers --> markers is replaced.")
    ] = None,
) -> None:
    """Compare what could read pictures better: encoders, views, colours, pooling, kernels, weights.

    Each alone against the base, with whole themes and with single pictures left out, in paired differences with
    intervals; what wins is confirmed on themes that no choice was made on.
    """
    from huesong.config import load_params
    from huesong.experiments.pictures.readers import markdown, run
    from huesong.report.tables import put_into

    if report is not None:
        put_into(report, "readers", None)
    names = encoder or ["efficientnet_lite2", "efficientnet_lite0", "efficientnet_lite1"]
    page = markdown(run(data, names, beside or [], load_params(params).preprocess, cache))
    if report is None:
        typer.echo(page, nl=False)
    else:
        put_into(report, "readers", page)
        typer.echo(str(report))


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


@app.command()
def bars(
    source: Annotated[Path, typer.Argument(help="Folder that holds music_unlabelled/ and music_annotated/.")],
    report: Annotated[
        Path | None,
        typer.Option(help="Markdown file whose part between <!-- bars --> markers is replaced; default: print."),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Pieces of each set that are measured.")] = 40,
    seed: Annotated[int, typer.Option(help="Which pieces, and how they are moved and bent.")] = 0,
    learn: Annotated[bool, typer.Option(help="First learn the package's weights anew, from split train.")] = False,
) -> None:
    """How often the bars of a piece are found: grid, metre, downbeat, beats of performances, beside what is known."""
    from huesong.experiments.bars import learning
    from huesong.experiments.bars.measure import page
    from huesong.report.tables import put_into

    if report is not None:
        put_into(report, "bars", None)
    if learn:
        typer.echo(str(learning.learn(source, seed)))
    text = page(source, most, seed)
    if report is None:
        typer.echo(text, nl=False)
    else:
        put_into(report, "bars", text)
        typer.echo(str(report))
