"""Train: the critic, then the CNN-Transformer with its valence-arousal loss; resumes where a killed run stopped."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import deterministic

from huesong import __version__, contracts
from huesong.config import TrainConfig
from huesong.model.copying.passages import Row, copy_rows
from huesong.model.critic import Critic
from huesong.model.dataset import Examples, load_examples
from huesong.model.decoding.history import BarTokens
from huesong.model.folder import Modules, save_model
from huesong.model.network import HuesongNetwork
from huesong.music.grammar import Grammar
from huesong.music.vocabulary import Vocabulary
from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.distributed import Processes, joined_processes
from huesong.runtime.errors import UserError
from huesong.runtime.files import (
    check_replaceable,
    read_json,
    replacing_file,
    replacing_folder,
    require,
    sha256,
)
from huesong.runtime.progress import log
from huesong.runtime.workers import cores
from huesong.tracking.figures import write_figures
from huesong.train.critic import train_critic
from huesong.train.loop import HISTORY_COLUMNS, PAIRS, PRETRAIN, Training, train_network
from huesong.train.picture_head import picture_figures, picture_shape
from huesong.train.rewards import REINFORCE, reinforce
from huesong.train.starting import start_from, starting_digest

OWN = (contracts.METRICS, contracts.MODEL)
"""What a folder holds that this stage wrote."""
KEPT_BASES = 3
COPIES = 12
"""Passages of the copy test in the training log."""
CRITIC = "critic"
CRITIC_COLUMNS = ("step", "loss", "val_loss", "lr")
INPUTS = {
    "preprocess": (contracts.TOKENS, contracts.VOCABULARY, contracts.PICTURE_FEATURES),
    "label": (contracts.TRAINING_TABLE,),
}
"""What training reads: a checkpoint of other inputs is never resumed."""
READ = sum(map(len, INPUTS.values()))
HANDED_ON = {
    "preprocess": (contracts.TOKENIZER, contracts.ENCODER),
    "label": (contracts.PIECE_LABELLER, contracts.SOURCES),
}
"""What the model folder takes along: asked for at the start, not after an hour of training."""


@dataclass(frozen=True)
class TrainReport:
    """Figures and files of a training run."""

    out: Path
    metrics: dict[str, float]

    @property
    def files(self) -> list[Path]:
        """What is worth keeping with the tracked run."""
        names = (contracts.HISTORY, contracts.CRITIC_HISTORY, contracts.METRICS, contracts.FIGURES)
        return [self.out / name for name in names]


def run(
    config: TrainConfig, *, preprocess: Path, label: Path, out: Path, checkpoints: Path, keep_pairs: bool = False
) -> TrainReport:
    """Train the model and write its folder, learning curves and figures.

    Args:
        config: the `train` section of params.yaml.
        preprocess: artifacts of the preprocess stage.
        label: artifacts of the label stage.
        out: folder for the artifacts of this stage; replaced as a whole.
        checkpoints: a killed run leaves its checkpoints here, below a digest of settings and inputs; removed after
            success, but for the last critics and pre-trained bases, from which runs with another seed or objective start.
        keep_pairs: leave what the pairs phase learnt there as well, for a run that differs in its rewards alone.

    Raises:
        UserError: missing or mismatched inputs, no CUDA where it was asked for, a loss that is not finite.
    """
    check_settings(config)
    check_replaceable(out, OWN, [preprocess, label, checkpoints])
    for stage, folder in (("preprocess", preprocess), ("label", label)):
        for name in (*INPUTS[stage], *HANDED_ON[stage]):
            require(folder / name, f"huesong {stage}")
    if config.reinforce.steps:
        labeller_parts()
    device = choose_device(config)
    with joined_processes(device) as processes, reproducible(config, device):
        examples = load_examples(preprocess, label)
        stores = checkpoint_folders(checkpoints, config, examples, input_digests(preprocess, label))
        critic, critic_history, critic_figures = make_critic(config, examples, stores[CRITIC], device, processes)
        torch.manual_seed(config.base_seed)
        vocabulary = Vocabulary.load(preprocess / contracts.VOCABULARY)
        network = HuesongNetwork(config.network, vocabulary.size, picture_shape(examples), BarTokens.of(vocabulary))
        if config.start_from:
            start_from(Path(config.start_from), network, vocabulary)
        copies = copy_test(config, examples, vocabulary)
        training = train_network(network, examples, config, critic, stores, device, processes, copies)
        rewarded = reward(training, critic, examples, config, stores[REINFORCE], preprocess, label, processes)
        metrics = {
            **training.metrics,
            **rewarded,
            **{f"critic_{name}": value for name, value in critic_figures.items()},
            **{f"picture_{name}": value for name, value in picture_figures(training.network, examples, device).items()},
        }
        if processes.writes:
            with replacing_folder(out, OWN, [preprocess, label, checkpoints]) as work:
                write_artifacts(work, config, training, critic, critic_history, metrics, examples, preprocess, label)
            if not keep_pairs:
                stores[PAIRS].clear()
            stores[REINFORCE].clear()
            forget_old_bases(checkpoints)
    log.info("trained %d steps; model in %s", training.steps, out / contracts.MODEL)
    return TrainReport(out, metrics)


def checkpoint_folders(
    folder: Path, config: TrainConfig, examples: Examples, inputs: list[str]
) -> dict[str, Checkpoints]:
    """Where each phase keeps its checkpoints: named after the settings and inputs that it depends on, and no others."""
    inputs = inputs + starting_digest(config)
    whole, music = all_settings(config), base_inputs(examples, inputs)
    pairs = {key: value for key, value in whole.items() if key != "reinforce"}
    names = {
        CRITIC: f"critic-{digest(critic_settings(config), music[:3])}",
        PRETRAIN: f"base-{digest(base_settings(config), music)}",
        PAIRS: f"pairs-{digest(pairs, inputs)}",
        REINFORCE: f"reinforce-{digest(whole, inputs)}",
    }
    return {phase: Checkpoints(folder / name) for phase, name in names.items()}


def forget_old_bases(folder: Path) -> None:
    """Keep the newest critics and pre-trained bases only."""
    for kind in ("base", "critic"):
        for old in sorted(folder.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime)[:-KEPT_BASES]:
            Checkpoints(old).clear()


def check_settings(config: TrainConfig) -> None:
    """Refuse sizes that do not fit together, and what this machine cannot do."""
    if config.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        raise UserError("train.compile needs a C++ compiler, and there is none: install g++, or set it to false")
    for name, width, heads, multiple in (
        ("network", config.network.width, config.network.heads, 2 * config.network.heads),
        ("critic", config.critic.width, config.critic.heads, 2 * config.critic.heads),
    ):
        if width % multiple:
            below = width - width % multiple
            near = f"{below} or {below + multiple}" if below else f"{multiple}"
            raise UserError(
                f"train.{name}.width = {width} is no multiple of twice train.{name}.heads = {heads}: take {near}"
            )


def choose_device(config: TrainConfig) -> torch.device:
    """The device of the settings; `auto` is CUDA where there is one."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device is cuda, but PyTorch sees no CUDA device: set train.device to auto or cpu")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def reproducible(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Deterministic kernels and a fixed number of threads while the stage runs; put back afterwards.

    On CUDA, kernels without a deterministic form warn instead of failing: there the same seed gives nearly the
    same weights, on the CPU the same bits.
    """
    filling = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), filling
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of torchrun on this machine
    torch.set_num_threads(config.threads or max(1, cores() // sharing))
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # Filling every new tensor, which goes with the above, halves the speed and only matters to code that reads garbage.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        deterministic.fill_uninitialized_memory = before[2]  # type: ignore[attr-defined]


PAIRS_ONLY = (
    "seed", "steps", "learning_rate", "objective", "va_weight", "va_temperature", "va_temperature_end",
    "tempo_weight", "image_va_weight", "reinforce",
)  # fmt: skip
"""Settings that do not change the critic or the pre-training."""


def all_settings(config: TrainConfig) -> dict[str, Any]:
    """All settings; a newer one whose default is what was before is left out there, so that checkpoints keep their names."""
    found = config.model_dump(mode="json")
    if found["network"]["image_tokens"]:
        del found["network"]["image_tokens"]
    return found


def base_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that pre-training depends on: it does not see the critic."""
    without = {*PAIRS_ONLY, "critic"}
    return {key: value for key, value in all_settings(config).items() if key not in without}


def critic_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that the critic depends on: not the network's, so that networks of all sizes share it."""
    own = {key: getattr(config, key) for key in ("base_seed", "device", "threads")}
    return {**own, "critic": config.critic.model_dump(mode="json"), "context": config.network.context}


def input_digests(preprocess: Path, label: Path) -> list[str]:
    """SHA-256 of everything that training reads."""
    return [sha256(preprocess / name) for name in INPUTS["preprocess"]] + [
        sha256(label / name) for name in INPUTS["label"]
    ]


def base_inputs(examples: Examples, inputs: Sequence[str]) -> list[str]:
    """What pre-training reads: tokens, vocabulary and the labelled music (the critic, too), and the shape of the pictures.

    So the base outlives another picture encoder of the same shape, other pictures, and other pairs.

    Args:
        examples: what training reads.
        inputs: `input_digests`, whose first are of tokens and vocabulary.
    """
    music = hashlib.sha256()
    for column in fields(examples.pieces):
        if column.name != "tokens":
            values = np.asarray(getattr(examples.pieces, column.name))
            music.update(f"{column.name} {values.dtype} {values.shape}\n".encode() + values.tobytes())
    return [*inputs[:2], music.hexdigest(), str(examples.pictures.rows.shape[1:]), *inputs[READ:]]


def digest(settings: dict[str, Any], inputs: list[str]) -> str:
    """Name of these settings on these inputs with this version."""
    content = {"version": __version__, "config": settings, "inputs": inputs}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def make_critic(
    config: TrainConfig, examples: Examples, saved: Checkpoints, device: torch.device, processes: Processes
) -> tuple[Critic, list[dict[str, Any]], dict[str, float]]:
    """The trained, frozen critic; from the checkpoint if it was finished before.

    It is small: one process trains it, and alone has its history and figures; the others wait for its weights.
    """
    torch.manual_seed(config.base_seed)
    critic = Critic(config.critic, examples.special.size, examples.special.head_V)
    history: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    if processes.writes:
        if (found := saved.load(CRITIC)) is not None:
            critic.load_state_dict(found.tensors["critic"])
            history, figures = found.state["history"], found.state["figures"]
        else:
            context, seed = config.network.context, config.base_seed
            history, figures = train_critic(critic, examples, context=context, seed=seed, device=device)
            if saved.load(CRITIC) is None:  # another run, started beside this one, may have been faster
                tensors = {name: tensor.cpu() for name, tensor in critic.state_dict().items()}
                saved.save_as(CRITIC, {"critic": tensors}, {"history": history, "figures": figures})
    processes.give_all(critic)
    return critic.to(device).freeze(), history, figures


def copy_test(config: TrainConfig, examples: Examples, vocabulary: Vocabulary) -> list[Row]:
    """Rows of the copy test, exact repeats of passages that are not trained on; none without music of split `val`."""
    pieces = examples.pieces
    held = np.flatnonzero((pieces.split_N == "val") & (pieces.count_N > 0))
    return copy_rows(
        vocabulary, pieces.tokens, pieces.start_N[held], pieces.count_N[held], context=config.network.context,
        passages=COPIES, distances=(1, 4), kinds=("exact",), seed=config.base_seed,
    )  # fmt: skip


def reward(
    training: Training,
    critic: Critic,
    examples: Examples,
    config: TrainConfig,
    saved: Checkpoints,
    preprocess: Path,
    label: Path,
    processes: Processes,
) -> dict[str, float]:
    """Fine-tune by reward where the settings ask for it; its last figures. The history gets its steps."""
    if not config.reinforce.steps or not processes.writes:  # the sampled batch is small: one process does it
        return {}
    LabellerScorer, PieceLabeller, tokens = labeller_parts()
    vocabulary = Vocabulary.load(preprocess / contracts.VOCABULARY)
    model = Modules(training.network, critic, vocabulary, Grammar(vocabulary), {}, preprocess)
    scorer = LabellerScorer(
        tokens.load(preprocess / contracts.TOKENIZER), PieceLabeller.load(label / contracts.PIECE_LABELLER)
    )
    rows = reinforce(model, examples, config.reinforce, saved, seed=config.seed, scorer=scorer, first=training.steps)
    training.history += [{**row, "phase": REINFORCE} for row in rows]
    edge = max(1, len(rows) // 5)
    return {
        "reinforce_steps": float(len(rows)),
        "reinforce_first_error": sum(row["va"] for row in rows[:edge]) / edge,
        "reinforce_last_error": sum(row["va"] for row in rows[-edge:]) / edge,
        "reinforce_kl": rows[-1]["kl"],
    }


def labeller_parts() -> tuple[Any, Any, Any]:
    """What rewards need beyond the network; training without them needs neither MidiTok nor scikit-learn.

    Raises:
        UserError: one of them is not installed.
    """
    try:
        from huesong.emotion.labellers import PieceLabeller
        from huesong.emotion.scorer import LabellerScorer
        from huesong.music import tokens
    except ImportError as error:
        raise UserError(
            f"rewards need the music labeller, and {error.name} is not installed: pip install huesong, or set "
            "train.reinforce.steps to 0"
        ) from error
    return LabellerScorer, PieceLabeller, tokens


def write_artifacts(
    work: Path,
    config: TrainConfig,
    training: Training,
    critic: Critic,
    critic_history: Sequence[Mapping[str, Any]],
    metrics: dict[str, float],
    examples: Examples,
    preprocess: Path,
    label: Path,
) -> None:
    """Model folder, learning curves and figures."""
    summary = {
        # Of the model it started from the name alone: where it lay on this machine is nobody else's.
        "config": config.model_dump(mode="json") | {"start_from": Path(config.start_from).name},
        # Without the time it took: the same training is the same model, digest and all.
        "metrics": {name: value for name, value in metrics.items() if name != "seconds"},
        "metres": metres_of(examples, Vocabulary.load(preprocess / contracts.VOCABULARY)),
        "data": read_json(label / contracts.SOURCES, "huesong label"),
        "huesong": __version__,
    }
    save_model(
        work / contracts.MODEL, network=training.network, critic=critic, preprocess=preprocess, label=label,
        training=summary,
    )  # fmt: skip
    write_rows(work / contracts.HISTORY, HISTORY_COLUMNS, training.history)
    write_rows(work / contracts.CRITIC_HISTORY, CRITIC_COLUMNS, critic_history)
    write_figures(work, "train", metrics)


def metres_of(examples: Examples, vocabulary: Vocabulary) -> dict[str, float]:
    """Share of the bars of training music that is in each metre, such as {"4/4": .8, "3/4": .2}; nothing where none says."""
    pieces, count_V = examples.pieces, np.zeros(vocabulary.size)
    for row in np.flatnonzero((pieces.split_N == "train") & pieces.on_bars_N):
        count_V += np.bincount(pieces.tokens[pieces.start_N[row] :][: pieces.count_N[row]], minlength=vocabulary.size)
    names = [next((name[8:] for name in parts if name.startswith("TimeSig_")), "") for parts in vocabulary.tokens]
    bars = {name: sum(count_V[index] for index, one in enumerate(names) if one == name) for name in set(names) - {""}}
    total = sum(bars.values())
    return {name: round(float(bars[name] / total), 4) for name in sorted(bars) if bars[name]}


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file of these columns; what a row does not have stays empty."""
    with replacing_file(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
