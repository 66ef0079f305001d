"""`huesong settings`: presets hold what differs, params.yaml holds everything."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from huesong.cli.app import app
from huesong.cli.settings import changed, complete, values
from huesong.config import Params, load_params
from huesong.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def settings(*words: str) -> str:
    result = CliRunner().invoke(app, ["settings", *words])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the presets."""
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leaves(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found


def test_the_committed_params_are_the_sample_preset_complete() -> None:
    text = (ROOT / "params.yaml").read_text()
    assert text == complete(load_params(ROOT / "presets" / "sample.yaml"), "sample"), (
        "run huesong settings use sample --force"
    )
    assert list(leaves(yaml.safe_load(text))) == list(values(Params()))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_holds_only_what_differs_from_the_defaults(path: Path) -> None:
    held = leaves(yaml.safe_load(path.read_text()))
    assert held == changed(load_params(path), Params())


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_use_writes_every_key_and_the_same_settings(folder: Path, path: Path) -> None:
    assert f"the settings of presets/{path.name}" in settings("use", path.stem)
    assert load_params(folder / "params.yaml") == load_params(path)
    assert list(leaves(yaml.safe_load((folder / "params.yaml").read_text()))) == list(values(Params()))


def test_compile_is_written_too(folder: Path) -> None:
    (folder / "mine.yaml").write_text("train: {compile: true}")
    settings("use", "mine.yaml")
    assert yaml.safe_load((folder / "params.yaml").read_text())["train"]["compile"] is True


def test_values_of_ones_own_are_replaced_with_force_only(folder: Path) -> None:
    settings("use", "cpu")
    settings("use", "gpu")  # nothing of one's own is lost
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("steps: 1500", "steps: 7").replace("folds: 5", "folds: 4"))
    before = params.read_text()
    with pytest.raises(UserError, match=r"\(label.folds = 4, train.steps = 7\).*--force") as caught:
        settings("use", "cpu")
    assert "\n" not in str(caught.value)
    assert params.read_text() == before
    settings("use", "cpu", "--out", "other.yaml")
    settings("use", "cpu", "--force")
    assert params.read_text() == (folder / "other.yaml").read_text()


def test_a_broken_file_is_not_replaced_unasked(folder: Path) -> None:
    (folder / "params.yaml").write_text("trian: {}")
    with pytest.raises(UserError, match="did you mean 'train'"):
        settings("use", "cpu")
    settings("use", "cpu", "--force")
    assert load_params(folder / "params.yaml") == load_params(ROOT / "presets" / "cpu.yaml")


def test_an_unknown_preset_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no preset 'cpus' \(known: ablation, cpu-small, cpu, .*shipped\)"):
        settings("use", "cpus")
    assert not (folder / "params.yaml").exists()


def test_diff_shows_key_value_and_default(folder: Path) -> None:
    (folder / "params.yaml").write_text("preprocess: {tokenizer: {tempo_range: [50, 200]}}\ntrain: {seed: 0, steps: 7}")
    rows = [line.split() for line in settings("diff").splitlines()]
    assert rows == [
        ["key", "value", "default"],
        ["preprocess.tokenizer.tempo_range", "[50,", "200]", "[40,", "220]"],
        ["train.steps", "7", "300"],
    ]
    (folder / "params.yaml").write_text("")
    assert settings("diff") == "params.yaml: every value is the default\n"
