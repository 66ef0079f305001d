import json
from pathlib import Path

import pytest

from huesong import config
from huesong.config import Params, TrainConfig, load_params
from huesong.experiments.ablation import PAPER
from huesong.runtime.errors import UserError
from huesong.train.stage import base_settings, digest

ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda p: p.name
)
def test_shipped_params_are_valid(path: Path) -> None:
    assert load_params(path).train.steps > 0


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Params()


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("trian: {steps: 1}", "trian", "train"),
        ("train: {lerning_rate: 1}", "train.lerning_rate", "learning_rate"),
        ("train: {network: {widht: 8}}", "train.network.widht", "width"),
        ("registre: {}", "registre", "register"),
    ],
)
def test_unknown_key_names_the_nearest_and_the_file(tmp_path: Path, text: str, unknown: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert f"'{unknown}'" in str(caught.value)
    assert f"did you mean '{nearest}'" in str(caught.value)
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_an_earlier_version_says_what_to_write_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config.OLD_KEYS, "train.network.layers", "write encoder_layers and decoder_layers")
    with pytest.raises(
        UserError, match=r"params.yaml: the key 'train.network.layers' is gone: write encoder_layers and"
    ):
        load(tmp_path, "train: {network: {layers: 3}}")
    with pytest.raises(UserError, match="did you mean"):
        load(tmp_path, "evaluate: {layers: 3}")


def test_no_key_is_both_old_and_known() -> None:
    for key in config.OLD_KEYS:
        *above, name = key.split(".")
        assert name not in config.known_keys(above)


@pytest.mark.parametrize(
    "text",
    [
        "train: {steps: 0}",
        "train: {steps: many}",
        "train: [",
        "- 1",
        "label: {pairing_map: magic}",
        "train: 3",
        "\xff: [",
    ],
)
def test_bad_values_are_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_params(tmp_path / "params.yaml")


def test_the_papers_network_stands_in_one_preset(tmp_path: Path) -> None:
    train = load_params(ROOT / "presets" / "paper.yaml").train
    assert (train.network.width, train.network.heads, train.network.positions) == (256, 4, "absolute")
    assert (train.network.encoder_layers, train.network.decoder_layers, train.condition_dropout) == (3, 3, 0.0)
    for key, value in PAPER["network"].items():
        assert getattr(train.network, key) == value
    for key in PAPER.keys() - {"network"}:
        assert getattr(train, key) == PAPER[key]
    with pytest.raises(UserError, match=r"^[^\n]*'train.preset' is gone: .*presets/paper\.yaml") as caught:
        load(tmp_path, "train: {preset: paper}")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"'train.va_loss' is gone: delete it"):
        load(tmp_path, "train: {va_loss: ccc}")


def test_checkpoints_of_compiled_runs_have_other_names_and_other_processes_are_told(tmp_path: Path) -> None:
    plain, compiled = TrainConfig(), TrainConfig(compile=True)
    for own in (base_settings, lambda config: config.model_dump(mode="json")):
        assert digest(own(plain), []) != digest(own(compiled), [])
    assert TrainConfig.model_validate(compiled.model_dump(mode="json")) == compiled
    assert json.loads(compiled.model_dump_json())["compile"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  steps: 1\ntrain:\n  steps: 2\n", "line 3: 'train' stands there twice"),
        ("train:\n  learning_rate: .inf\n", r"line 2: \.inf: write a finite number"),
        ("train:\n  learning_rate: 1e400\n", r"train\.learning_rate = '1e400': Input should be a finite number"),
        ("train:\n  compile: on\n", "line 2: on: write true or false"),
        ("train:\n  steps: 1_000\n", "line 2: 1_000: write a whole number"),
        ("train:\n  device: " + "x" * 5000 + "\n", r"train\.device = 'x{56}\.\.\.: Input should be"),
    ],
)
def test_values_that_mean_something_else_are_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preprocess: {seed: -1}", "preprocess.seed = -1"),
        ("train: {seed: 4294967296}", "train.seed = 4294967296"),
        ("train: {base_seed: -7}", "train.base_seed = -7"),
        ("preprocess: {tokenizer: {tempo_range: [220, 40]}}", "preprocess.tokenizer.tempo_range = [220, 40]"),
        ("preprocess: {tokenizer: {tempo_range: [0, 100000]}}", "preprocess.tokenizer.tempo_range"),
        ("train: {network: {heads: 4, kv_heads: 3}}", "train.network: kv_heads = 3 does not divide heads = 4"),
        ("preprocess: {min_seconds: 60, max_seconds: 30}", "min_seconds = 60 is not below max_seconds = 30"),
        ("preprocess: {splits: {val: 0.5, judge: 0.4, test: 0.3}}", "leave nothing to train on"),
        ("train: {network: {encoder_layers: 1000000}}", "train.network.encoder_layers = 1000000"),
        ("train: {network: {width: 1000000000}}", "train.network.width = 1000000000"),
        ("train: {critic: {layers: 1000000}}", "train.critic.layers = 1000000"),
        ("train: {batch_size: 1000000000}", "train.batch_size = 1000000000"),
        ("evaluate: {sampling: {candidates: 1000000000}}", "evaluate.sampling.candidates = 1000000000"),
        ("evaluate: {bootstrap: 100000000000}", "evaluate.bootstrap = 100000000000"),
        ("preprocess: {workers: 1000000}", "preprocess.workers = 1000000"),
    ],
)
def test_what_would_never_end_or_fit_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
