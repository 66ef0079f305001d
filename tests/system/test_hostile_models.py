"""A model folder is data, not trust: whatever is in one, it composes or is refused in one line, in bounded time and memory."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from huesong import contracts
from huesong.compose import Composer, Request, sampling_config
from huesong.emotion import boosting
from huesong.emotion.labellers import PieceLabeller
from huesong.model.folder import load_model
from huesong.register.shipped import PLACE
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256
from tests.examples import many

pytestmark = pytest.mark.slow

CONFIG = contracts.MODEL_CONFIG
CPU_S, MEMORY = 60, 3 * 2**30
"""Of a child that loads a hostile folder and composes with it; more than it needs for a sound one, by far."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PLACE, tmp_path / "model"))


def renew(folder: Path) -> None:
    """Every digest in config.json as the files are now: whoever attacks can count, too."""
    config = json.loads((folder / CONFIG).read_text())
    for name in config["files"]:
        if (folder / name).is_file():
            config["files"][name] = sha256(folder / name)
    (folder / CONFIG).write_text(json.dumps(config))


def change(folder: Path, name: str, edit: Callable[[Any], None]) -> None:
    """Edit a JSON file of the folder, and renew the digests."""
    value = json.loads((folder / name).read_text())
    edit(value)
    (folder / name).write_text(json.dumps(value))
    renew(folder)


def refused(folder: Path, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Composer(folder)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["network"].update(width=10**9), "network"),
        (lambda c: c["network"].update(encoder_layers=10**6), "network"),
        (lambda c: c["network"].update(width=4096), "another architecture"),
        (lambda c: c["network"].update(heads=7, kv_heads=7), "no sound model"),
        (lambda c: c["network"].update(kv_heads=3), "config.json: kv_heads = 3 does not divide heads"),
        (lambda c: c["network"].update(context=10**12), "network"),
        (lambda c: c["network"].update(context="512; rm"), "network"),
        (lambda c: c["critic"].update(layers=48), "another architecture"),
        (lambda c: c["picture"].update(tokens=10**12), "picture.tokens"),
        (lambda c: c["picture"].update(kind="code"), "picture.kind"),
        (lambda c: c["picture"].update(rated=-1), "picture.rated"),
        (lambda c: c["vocabulary"].update(size=10**12), "vocabulary"),
        (lambda c: c.update(network=None), "does not describe"),
        (lambda c: c["training"]["metres"].update({"6/8": None}), "metres.6/8 = None"),
        (lambda c: c["training"].update(metres={"4/4": "x" * 5000}), "training"),
        (lambda c: c["training"].update(data=[3]), "training"),
        (lambda c: c.update(training=[]), "training"),
        (lambda c: c["picture"].update(channels=640), "another architecture"),
        (lambda c: c.update(files=[]), "lists no files"),
        (lambda c: c["files"].update({"/dev/zero": "0"}), "outside the model folder"),
        (lambda c: c["files"].update({"encoder/../../x": "0"}), "outside the model folder"),
        (lambda c: c["files"].pop(contracts.PIECE_LABELLER), "does not list"),
        (lambda c: c["files"].pop("encoder/encoder.json"), "does not list"),
    ],
)
def test_settings_are_typed_and_bounded(edit: Callable[[Any], None], said: str, folder: Path) -> None:
    change(folder, CONFIG, edit)
    refused(folder, said)


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        (contracts.TOKENIZER, lambda c: c["config"].update(num_tempos=10**9), "num_tempos = 1000000000"),
        (contracts.TOKENIZER, lambda c: c["config"].update(beat_res={"0_9999": 9999}), "durations"),
        (contracts.TOKENIZER, lambda c: c["config"].update(beat_res={"0_4": "many"}), "config.beat_res"),
        (contracts.TOKENIZER, lambda c: c.update(config=3), "no settings"),
        ("encoder/encoder.json", lambda c: c.update(side=10**9), "side"),
        ("encoder/encoder.json", lambda c: c.update(grid=float("inf")), "grid"),
        ("encoder/encoder.json", lambda c: c.update(kind="pickle"), "kind"),
        ("encoder/encoder.json", lambda c: c.update(shape=[16, -1]), "shape"),
        ("encoder/encoder.json", lambda c: c.update(shape=[16, [1280]]), "shape"),
        ("encoder/encoder.json", lambda c: c.update(shape=[16, 640]), "the model reads [16, 1280]"),
        ("encoder/encoder.json", lambda c: c.update(scales=8), "32768 pixels a side"),
        ("encoder/encoder.json", lambda c: c.update(sd=[0, 1, 1]), "sd"),
        ("encoder/encoder.json", lambda c: c.update(mean=[]), "mean"),
        (contracts.TOKENIZER, lambda c: c["config"]["beat_res"].pop("4_12"), "not the tokenizer"),
        (contracts.TOKENIZER, lambda c: c["_vocab_base"].pop("Pitch_52"), "okenizer"),
        (contracts.TOKENIZER, lambda c: c["_vocab_base"].update(Pitch_52=61, Pitch_61=52), "okenizer"),
        (contracts.VOCABULARY, lambda c: c.update(tokens=[["Bar_None"]]), "digest"),
    ],
)
def test_what_the_tokenizer_and_the_encoder_are_told_is_bounded(
    name: str, edit: Callable[[Any], None], said: str, folder: Path
) -> None:
    change(folder, name, edit)
    refused(folder, said)


def test_an_unlisted_file_that_would_be_read_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_text("read by nobody")
    load_model(folder)
    (folder / "encoder" / "pytorch_model.bin").write_bytes(b"pickle")
    refused(folder, "does not list encoder/pytorch_model.bin")


def test_links_and_devices_are_no_files(folder: Path) -> None:
    (folder / contracts.TOKENIZER).unlink()
    os.mkfifo(folder / contracts.TOKENIZER)
    refused(folder, "missing")
    (folder / contracts.TOKENIZER).unlink()
    (folder / contracts.TOKENIZER).symlink_to("/dev/zero")
    refused(folder, "missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [contracts.MODEL_WEIGHTS, contracts.CRITIC_WEIGHTS])
def test_weights_that_are_no_numbers_are_refused(name: str, value: float, folder: Path) -> None:
    path = folder / name
    with safe_open(path, "pt") as stream:
        metadata = stream.metadata()
    tensors = load_file(path)
    first = next(key for key, tensor in sorted(tensors.items()) if tensor.is_floating_point())
    tensors[first].view(-1)[-1] = value
    save_file(tensors, path, metadata)
    renew(folder)
    refused(folder, "no numbers")


# --- the labeller, whose trees are followed from node to node -----------------------------------------


def labeller_with(folder: Path, edit: Callable[[Any], None]) -> None:
    """Rewrite the labeller's file with edited arrays."""
    path = folder / contracts.PIECE_LABELLER
    with safe_open(path, "numpy") as stream:
        metadata = stream.metadata()
    arrays = {name: array.copy() for name, array in load_arrays(path).items()}
    edit(arrays)
    save_arrays(arrays, path, metadata)
    renew(folder)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda a: a["trees.left_K"].__setitem__(0, 0), "lead nowhere"),  # a circle: predict would never end
        (lambda a: a["trees.right_K"].__setitem__(0, 2**31 - 1), "lead nowhere"),
        (lambda a: a["trees.right_K"].__setitem__(0, a["trees.root_T"][1]), "lead nowhere"),  # into the next tree
        (lambda a: a["trees.feature_K"].__setitem__(0, 2**30), "lead nowhere"),
        (lambda a: a["trees.feature_K"].__setitem__(0, -5), "lead nowhere"),
        (lambda a: a["trees.value_K"].__setitem__(1, np.nan), "no numbers"),
        (lambda a: a["trees.root_T"].__setitem__(1, 0), "without nodes"),
        (lambda a: a["trees.trees_M"].__setitem__(0, 10**6), "no model"),
        (lambda a: a.update({"trees.baseline_M": np.zeros(3)}), "3 models"),
        (lambda a: a.update({"spread_scale": np.array([np.nan, 1.0])}), "no number"),
        (lambda a: a.update({"kernel.centre": np.zeros(5)}), "centre does not fit"),
        (lambda a: a.pop("spread.left_K"), "damaged"),
        (lambda a: a.update({"other.thing": np.zeros(5)}), "unknown arrays"),
    ],
)
def test_trees_are_checked_before_they_are_followed(edit: Callable[[Any], None], said: str, folder: Path) -> None:
    labeller_with(folder, edit)
    with pytest.raises(UserError, match=said):
        PieceLabeller.load(folder / contracts.PIECE_LABELLER)


def test_a_labeller_of_gigabytes_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "MOST_BYTES", 10**5)
    refused(folder, "more than 100,000")


# --- many of them, changed at random -----------------------------------------------------------------

PICTURE = np.full((40, 60, 3), (200, 120, 30), np.uint8)
HOSTILE = (
    0,
    -1,
    1,
    2,
    3,
    10**4,
    10**9,
    -(10**9),
    2**63,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x" * 5000,
    None,
    True,
    [],
    {},
    [[]],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a JSON document; of long lists to the first few."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))[:60]
        for key, item in items:
            found += places(item, (*path, key))
    return found


def mutate(folder: Path, rng: random.Random) -> str:
    """Change one file of the folder, and the digests with it; says what was changed."""
    files = [CONFIG, contracts.TOKENIZER, contracts.VOCABULARY, "encoder/encoder.json", contracts.MODEL_WEIGHTS]
    files += [contracts.CRITIC_WEIGHTS, contracts.PICTURE_CERTAINTY, contracts.PIECE_LABELLER]
    name = rng.choice(files)
    path = folder / name
    kind = (
        rng.choice(("value", "value", "value", "key"))
        if name.endswith(".json")
        else rng.choice(("bytes", "head", "cut"))
    )
    if kind in ("value", "key"):
        document = json.loads(path.read_text())
        *way, last = rng.choice(places(document))
        target = document
        for key in way:
            target = target[key]
        if kind == "key" and isinstance(target, dict):
            del target[last]
        else:
            target[last] = rng.choice(HOSTILE)
        path.write_text(json.dumps(document))
        said = f"{name} {kind} {[*way, last]}"
    else:
        content = bytearray(path.read_bytes())
        if kind == "cut":
            content = content[: rng.randrange(len(content))]
        else:
            for _ in range(rng.choice((1, 4, 64))):
                content[rng.randrange(min(len(content), 2000) if kind == "head" else len(content))] = rng.randrange(256)
        path.write_bytes(content)
        said = f"{name} {kind}"
    if name == contracts.VOCABULARY:
        raw = json.loads(path.read_text())
        if isinstance(raw, dict) and isinstance(raw.get("tokens"), list):
            raw["digest"] = hashlib.sha256(json.dumps(raw["tokens"], separators=(",", ":")).encode()).hexdigest()
            path.write_text(json.dumps(raw))
    if name != CONFIG:
        renew(folder)
    return said


def in_a_child(folder: Path) -> str:
    """Load and compose in a child with bounds: `composed`, `refused`, or what else became of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
            said = "composed"
            try:
                piece = Composer(folder).compose([Request(PICTURE)], sampling_config(seconds=4, candidates=1))[0]
                assert piece.midi[:4] == b"MThd"
            except UserError as error:
                said = "refused" if "\n" not in str(error) else f"many lines: {error}"
            except BaseException:
                said = traceback.format_exc()
            os.write(writing, said.encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    return said if not os.WIFSIGNALED(status) else f"ended by {signal.Signals(os.WTERMSIG(status)).name}"


@pytest.mark.fuzz
def test_hostile_folders_compose_or_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    Composer(folder).compose([Request(PICTURE)], sampling_config(seconds=4, candidates=1))  # imports, before the forks
    wrong, counts = [], {"composed": 0, "refused": 0}
    for number in range(min(many(25), 500)):
        hostile = Path(shutil.copytree(folder, tmp_path / "hostile", dirs_exist_ok=True))
        what = mutate(hostile, random.Random(number))
        became = in_a_child(hostile)
        if became in counts:
            counts[became] += 1
        else:
            wrong.append(f"seed {number}: {what}: {became}")
        shutil.rmtree(hostile)
    print(counts, file=sys.stderr)
    assert not wrong, "\n\n".join(wrong[:20])
    assert min(counts.values()) > 0
