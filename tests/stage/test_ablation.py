from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest

from huesong.config import Params, TrainConfig, load_params
from huesong.experiments import ablation
from huesong.experiments.ablation import VARIANTS, references, run, variant_config, variant_judging
from huesong.experiments.ablation_figures import baselines, compared, comparison, pooled
from huesong.experiments.ablation_page import chart, markdown, verdict
from huesong.runtime.errors import UserError
from huesong.runtime.files import write_json
from tests.conftest import World
from tests.stores import new_database

PARAMS = Params.model_validate({"evaluate": {"bootstrap": 200}})
ROOT = Path(__file__).parents[2]


def judged(folder: Path, error: float, **metrics: float) -> Path:
    """The folder of a run whose pieces miss their arousal by `error`; the second judge hears a tenth of it, in valence."""
    folder.mkdir(parents=True)
    levels = (-0.8, -0.4, 0.0, 0.4, 0.8)
    rows = [
        {"set": "grid", "request": f"{v}{a}{seed}", "image_group": "", "requested_valence": v, "requested_arousal": a,
         "obtained_valence": v, "obtained_arousal": a + error + 0.01 * seed,
         "second_valence": v - error / 10, "second_arousal": a,
         "polyphony_rate": error + seed, "pitch_entropy": 4.0, "groove_paper": 0.9, "groove": 0.8 + v / 10, "copied_notes": 5}
        for v in levels for a in levels for seed in range(2)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "requests.csv", index=False)
    write_json(folder / "figures.json", metrics)
    return folder


def test_variants_change_what_they_name_and_nothing_else() -> None:
    params = load_params(ROOT / "presets" / "ablation.yaml")
    own = params.train
    plain, rewarded, paper = (variant_config(own, name, 2) for name in ("ce", "ce+va_critic+reward", "paper preset"))
    assert plain == own.model_copy(
        update={"objective": "ce", "seed": 2, "reinforce": own.reinforce.model_copy(update={"steps": 0})}
    )
    assert rewarded.reinforce == own.reinforce
    assert own.reinforce.steps > 0
    assert (paper.network.width, paper.network.positions) == (256, "absolute")
    assert paper.network.context == own.network.context


def test_the_objective_is_judged_not_the_choice_among_candidates() -> None:
    params = load_params(ROOT / "presets" / "ablation.yaml")
    ours, paper = (
        variant_judging(params.evaluate, variant_config(params.train, name, 0), with_baselines=False)
        for name in ("ce", "paper preset")
    )
    assert params.evaluate.sampling.candidates > 1
    assert (ours.sampling.candidates, ours.sampling.guidance) == (1, params.evaluate.sampling.guidance)
    assert (paper.sampling.candidates, paper.sampling.guidance) == (1, 1)
    assert not ours.baselines


def test_the_nearer_objective_helps_and_the_farther_hurts(tmp_path: Path) -> None:
    plain = {seed: judged(tmp_path / "plain" / str(seed), 0.3) for seed in range(3)}
    near = {seed: judged(tmp_path / "near" / str(seed), 0.1 + 0.03 * seed) for seed in (0, 1, 2, 5)}
    found = compared(plain, near, PARAMS)
    assert found["n"] == 150
    assert found["arousal"] == pytest.approx(0.17)
    assert found["arousal_seed_2"] == pytest.approx(0.14)
    assert "arousal_seed_5" not in found
    assert found["arousal_low"] > 0
    assert found["valence"] == 0
    line = verdict("near", found)
    assert "arousal helps (+0.170" in line
    assert "seed by seed +0.200, +0.170, +0.140)" in line
    assert "First judge: valence cannot be told apart" in line
    assert found["second_valence"] == pytest.approx(0.017)
    assert "Second judge: valence helps (+0.017 [" in line
    assert "arousal cannot be told apart (+0.000 [+0.000, +0.000]; seed by seed +0.000, +0.000, +0.000)." in line
    assert "arousal hurts" in verdict("far", compared(near, plain, PARAMS))


def pictured(folder: Path, error: float, *, each: int = 3, shift: float = 0.0) -> Path:
    """The folder of a run with `each` equal pieces for 20 pictures of 10 groups, whose requests lie `shift` from the usual."""
    folder.mkdir(parents=True)
    rows = [
        {"set": "pictures", "request": f"i{k}-{piece}", "image_id": f"i{k}", "image_group": f"g{k // 2}",
         "requested_valence": k / 20 + shift, "requested_arousal": -k / 20,
         "obtained_valence": k / 20 + shift + error * (k % 4), "obtained_arousal": 0.0,
         "second_valence": 0.0, "second_arousal": 0.0}
        for k in range(20) for piece in range(each)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "requests.csv", index=False)
    write_json(folder / "figures.json", {})
    return folder


def test_variants_are_compared_on_pictures_too_and_more_pieces_and_seeds_of_a_picture_are_no_more_pictures(
    tmp_path: Path,
) -> None:
    found = {}
    for seeds, each in ((1, 1), (3, 4)):
        plain, near = (
            {seed: pictured(tmp_path / f"{name}{each}" / str(seed), error, each=each) for seed in range(seeds)}
            for name, error in (("plain", 0.2), ("near", 0.1))
        )
        found[each] = comparison("near against plain", plain, near, PARAMS)
        pool = pooled(list(near.values()), PARAMS)
        found[each]["pool"] = {key: pool[f"valence_mae{key}"] for key in ("", "_low", "_high")}
    one, four = found[1], found[4]
    title = "near against plain, on test pictures"
    assert one.keys() == four.keys() == {title, "pool"}, "nothing was asked for on the grid"
    assert (one[title]["n"], one[title]["pictures_n"], one[title]["groups_n"]) == (20, 20, 10)
    assert (four[title]["n"], four[title]["pictures_n"], four[title]["groups_n"]) == (240, 20, 10)
    assert one[title]["valence"] == pytest.approx(0.15)
    assert four[title]["valence"] == pytest.approx(0.15)
    for figures, key in ((title, "valence_low"), (title, "valence_high"), ("pool", "_low"), ("pool", "_high")):
        assert four[figures][key] == pytest.approx(one[figures][key])
    assert "n = 240 for 20 pictures of 10 groups). First judge: valence helps (+0.150 [" in verdict(title, four[title])


def test_variants_that_read_pictures_otherwise_are_not_compared_on_them(tmp_path: Path) -> None:
    plain, same, other = ({0: pictured(tmp_path / str(shift), 0.1, shift=shift)} for shift in (0.0, 0.001, 0.13))
    assert compared(plain, same, PARAMS, "pictures")["n"] == 60
    left_out = compared(plain, other, PARAMS, "pictures")
    assert left_out == {"n": 0, "requests_apart": pytest.approx(0.13)}
    assert verdict("a against b, on test pictures", left_out) == (
        "* **a against b, on test pictures**: left out, as the two ask for different emotions, up to 0.13 apart."
    )


def test_a_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    run = pictured(tmp_path / "run", 0.1)
    pd.read_csv(run / "requests.csv").drop(columns="image_group").to_csv(run / "requests.csv", index=False)
    with pytest.raises(UserError, match=r"requests\.csv was written by an earlier version: remove .*run"):
        pooled([run], PARAMS)


def test_seeds_are_pooled_and_baselines_read_from_the_first_run(tmp_path: Path) -> None:
    folders = [
        judged(tmp_path / str(seed), 0.1 + seed / 5, polyphony_rate_data=0.5, pitch_entropy_data=4.0, groove_paper_data=0.9,
               groove_data=1.0, copied_notes_data=6.0, pitch_count_overlap=0.5, pitch_range_overlap=0.7 + seed / 5, pitch_overlap=0,
               identical_share=seed / 2, retrieval_grid=9.0, grid_retrieval_arousal_r=0.7, retrieval_arousal_r=0.5)
        for seed in range(2)
    ]  # fmt: skip
    found = pooled(folders, PARAMS)
    assert found["grid_n"] == 100
    assert found["grid_arousal_mae"] == pytest.approx(0.205)
    assert found["second_grid_valence_mae"] == pytest.approx(0.02)
    assert found["polyphony_rate"] == pytest.approx(0.7), "over the pieces of both seeds"
    assert found["polyphony_rate_low"] < 0.65 < 0.75 < found["polyphony_rate_high"]
    assert found["distance_paper"] == pytest.approx(0.4)
    assert found["distance_correct"] == pytest.approx(0.6)
    assert found["distance_paper_low"] < 0.4 < found["distance_paper_high"]
    assert found["overlap"] == pytest.approx(0.65), "of Yang and Lerch's features alone"
    ladder = baselines(folders[0])
    assert ladder["nearest training piece"]["grid_arousal_r"] == 0.7
    assert ladder["nearest training piece"]["arousal_r"] == 0.5
    page = markdown({"ce": found, "- nearest training piece": {"grid_n": 50.0, **ladder["nearest training piece"]}}, {})
    first, second = page.split("Grid of 25 emotions, second judge:")
    assert "| ce | 100 |" in first
    assert "| 2 | .40 [" in first
    assert "| - nearest training piece | 50 | - |" in first
    assert "| ce | 100 | .02 " in second
    assert "nearest" not in second
    row = next(line for line in page.splitlines() if line.startswith("| ce | .70 ["))
    assert row.endswith("| .65 | - | 5.00 [5.00, 5.00] | .25 | - | - |")
    assert "| - rated data | .50 | 4.00 | .90 | 1 | - " in page
    assert "Test pictures" not in page, "none were asked for"
    chart({"ce": found, **ladder}, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 5000


def test_an_unknown_variant_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown variant 'gan': choose from ce, "):
        run(PARAMS, data=tmp_path, preprocess=tmp_path, label=tmp_path, out=tmp_path / "out", variants=["gan"])
    assert not (tmp_path / "out").exists()
    assert "ce" in VARIANTS


def test_a_table_of_what_is_finished(tmp_path: Path) -> None:
    places = {"data": tmp_path, "preprocess": tmp_path, "label": tmp_path, "out": tmp_path / "out"}
    with pytest.raises(UserError, match=r"no run in .*out is finished: leave out --no-train"):
        run(PARAMS, **places, trains=False)
    for name, seed, error in (("ce", 0, 0.3), ("ce", 1, 0.3), ("ce+va_head", 1, 0.2), ("paper-preset", 0, 0.4)):
        judged(tmp_path / "out" / f"{name}-{seed}" / "evaluate", error)
    report = tmp_path / "docs" / "results.md"
    report.parent.mkdir()
    report.write_text("<!-- ablation -->\n<!-- /ablation -->\n![the chart](images/ablation.png)\n")
    made = run(PARAMS, **places, trains=False, report=report)
    assert {name: found["seeds_n"] for name, found in made.figures.items()} == {
        "ce": 2, "ce+va_head": 1, "paper preset": 1
    }  # fmt: skip
    assert made.comparisons["ce+va_head against ce, on the grid"]["n"] == 50
    assert made.comparisons["ce+va_head against ce, on the grid"]["arousal"] == pytest.approx(0.1)
    table = tmp_path / "out" / "table"
    assert "| ce | 100 |" in (table / "ablation.md").read_text()
    assert "| ce | 100 |" in report.read_text()
    assert (report.parent / "images" / "ablation.png").read_bytes() == (table / "ablation.png").read_bytes()


@dataclass
class Made:
    """What a stage returns."""

    metrics: dict[str, float]
    files: list[Path] = field(default_factory=list)


@pytest.mark.parametrize("name", ["", "by hand"])
def test_a_killed_and_resumed_ablation_is_one_tracked_parent_whose_runs_can_be_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from mlflow import MlflowClient

    for variable in ("HUESONG_TRACKING", "MLFLOW_RUN_ID", "RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HUESONG_SESSION", name)
    uri = new_database(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(ablation, "judges_of", lambda *_: None)
    trained = []

    def train(config: TrainConfig, *, out: Path, **_: object) -> Made:
        trained.append(config.objective)
        if len(trained) == 3:
            raise SystemExit(143)  # as a SIGTERM ends it
        out.mkdir(parents=True)
        write_json(out / "figures.json", {})
        return Made({"train_ce": 1.0})

    def evaluate(config: object, *, out: Path, **_: object) -> Made:
        judged(out, 0.1)
        return Made({"grid_n": 50})

    monkeypatch.setattr("huesong.train.stage.run", train)
    monkeypatch.setattr("huesong.evaluate.stage.run", evaluate)
    places = {"data": tmp_path, "preprocess": tmp_path, "label": tmp_path, "out": tmp_path / "out"}
    with pytest.raises(SystemExit):
        run(PARAMS, **places, seeds=2, variants=["ce", "ce+va_head"])
    assert os.environ["HUESONG_SESSION"] == name, "as it was"
    monkeypatch.delenv("HUESONG_SESSION")  # a new process
    run(PARAMS, **places, seeds=2, variants=["ce", "ce+va_head"])

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(PARAMS.register_.experiment)
    tags = [found.data.tags | {"status": found.info.status} for found in client.search_runs([experiment.experiment_id])]
    parents, children = ([one for one in tags if ("mlflow.parentRunId" in one) == below] for below in (False, True))
    assert len(parents) == 1
    assert parents[0]["huesong.session"] == (tmp_path / "out" / "session.txt").read_text().strip()
    assert parents[0]["huesong.session"] == name or not name
    assert "HUESONG_SESSION" not in os.environ
    assert len({one["mlflow.parentRunId"] for one in children}) == 1
    told = sorted(
        (one["status"], one["huesong.stage"], one["huesong.variant"], one["huesong.train_seed"]) for one in children
    )
    finished = [
        (stage, name, seed) for stage in ("evaluate", "train") for name in ("ce", "ce+va_head") for seed in "01"
    ]
    assert told == [*(("FINISHED", *one) for one in finished), ("KILLED", "train", "ce", "1")]


def test_a_sweep_of_the_weight() -> None:
    own = load_params(ROOT / "presets" / "ablation.yaml").train
    swept, plain = (variant_config(own, name, 1) for name in ("ce+va_head@1.5", "ce+va_head"))
    assert swept == plain.model_copy(update={"va_weight": 1.5})
    assert references("ce+va_head@1.5") == ["ce+va_head"]
    for name in ("ce+va_head@", "ce+va_head@-1", "ce+va_head@much", "ce+va_head@nan"):
        with pytest.raises(UserError, match="the weight behind @ must be a number"):
            variant_config(own, name, 1)


def test_what_a_variant_is_compared_with() -> None:
    assert {name: references(name) for name in VARIANTS} == {
        "ce": [], "ce+contrastive": ["ce"], "ce+va_head": ["ce", "ce+contrastive"], "ce+va_critic": ["ce", "ce+contrastive"],
        "ce+va_critic+reward": ["ce", "ce+contrastive", "ce+va_critic"],
        "ce+va_head+reward": ["ce", "ce+contrastive", "ce+va_head"], "paper preset": ["ce", "ce+contrastive"],
    }  # fmt: skip


@pytest.mark.slow
def test_two_variants_from_one_base_and_a_second_call_runs_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUESONG_TRACKING", "off")
    places = {"data": world.data, "preprocess": world.preprocess, "label": world.label, "out": tmp_path / "ablation"}
    made = run(world.params, **places, seeds=1, variants=["ce", "ce+va_critic+reward"], jobs=2)
    assert made.figures["ce"]["grid_n"] == made.figures["ce+va_critic+reward"]["grid_n"] == 25
    title = "ce+va_critic+reward against ce"
    assert made.comparisons.keys() == {f"{title}, on the grid", f"{title}, on test pictures"}
    assert made.comparisons[f"{title}, on test pictures"]["n"] > 0, "both read the same from a picture"
    assert "second_grid_valence_ccc" in made.figures["- nearest training piece"]
    assert "- nearest training piece" in made.figures
    assert [path.name for path in made.files] == ["ablation.json", "ablation.md", "ablation.png"]
    kept = [path.name.partition("-")[0] for path in (tmp_path / "ablation" / "checkpoints").iterdir()]
    assert kept == ["critic"]
    assert "Hours by the runs' own clocks: train 0.0, evaluate 0.0." in made.files[1].read_text()
    assert (tmp_path / "ablation" / "session.txt").read_text().startswith("ablation 20")
    monkeypatch.setattr("huesong.train.stage.run", lambda *_, **__: pytest.fail("a finished run is repeated"))
    assert run(world.params, **places, seeds=1, variants=["ce", "ce+va_critic+reward"]).figures == made.figures


@pytest.mark.slow
def test_a_sigterm_ends_the_runs_that_stand_beside_each_other(world: World, tmp_path: Path) -> None:
    settings = world.params.model_dump_json(by_alias=True)
    (tmp_path / "params.yaml").write_text(
        settings.replace('"steps":', '"steps": 999', 1)
    )  # the critic: far too many to end soon
    command = [sys.executable, "-m", "huesong.cli", "experiment", "ablation", "--jobs", "2", "--seeds", "1"]
    command += [f"--{name}={folder}" for name, folder in vars(world).items() if name in ("data", "preprocess", "label")]
    command += [
        f"--params={tmp_path / 'params.yaml'}",
        f"--out={tmp_path / 'out'}",
        "--variant=ce",
        "--variant=paper preset",
    ]
    with subprocess.Popen(command, env={**os.environ, "HUESONG_TRACKING": "off"}) as process:
        own = psutil.Process(process.pid)
        workers: list[psutil.Process] = []
        while len(workers) < 2:
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.1)
            workers = [child for child in own.children(recursive=True) if child.cpu_times().user > 3]
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert not psutil.wait_procs(workers, timeout=30)[1]
