"""Typed settings: one section of `params.yaml` a stage, read and checked here only."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from huesong.runtime.documents import read_yaml
from huesong.runtime.errors import UserError

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""As every library takes it."""


class Section(BaseModel):
    """A part of params.yaml: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SplitShares(Section):
    """Shares of the groups that are drawn for each held-out split; the rest is `train`."""

    val: float = Field(0.1, gt=0, lt=1)
    judge: float = Field(0.25, gt=0, lt=1)
    test: float = Field(0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _some_left_to_train(self) -> SplitShares:
        if self.val + self.judge + self.test >= 1:
            raise ValueError("val, judge and test leave nothing to train on: their sum must be below 1")
        return self


SLOWEST, FASTEST = 10, 400
"""Tempos in quarters a minute that any model may know."""


class TokenizerConfig(Section):
    """MidiTok REMI and its byte pair encoding."""

    vocabulary_size: int = Field(1200, ge=300, le=60000)
    """Size after BPE, base tokens included."""
    positions_per_beat: int = Field(12, ge=2, le=24)
    """Of a beat of the metre; 12 hold sixteenths and triplets."""
    velocities: int = Field(12, ge=2, le=127)
    tempos: int = Field(32, ge=2, le=128)
    tempo_range: tuple[int, int] = (40, 220)
    """Quarters a minute, within SLOWEST and FASTEST."""

    @field_validator("tempo_range")
    @classmethod
    def _ascending(cls, tempos: tuple[int, int]) -> tuple[int, int]:
        if not SLOWEST <= tempos[0] < tempos[1] <= FASTEST:
            raise ValueError(f"give two numbers from {SLOWEST} to {FASTEST}, the lower one first")
        return tempos


class PreprocessConfig(Section):
    seed: Seed = 0
    encoder: str = "builtin"
    """`builtin`, `efficientnet_lite2`, a local folder of a transformers backbone, or its name on the hub."""
    picture_size: int = Field(64, ge=32, le=512)
    """Side in pixels of the picture the `builtin` CNN sees (a backbone brings its own size)."""
    picture_grid: int = Field(4, ge=1, le=16)
    """A backbone's feature map is average-pooled to grid x grid image tokens."""
    picture_scales: int = Field(1, ge=1, le=3)
    """A CNN backbone looks at the picture in its own size, in twice that, and so on; its tokens are the means."""
    max_pixels: int = Field(64_000_000, ge=1, le=10**9)
    min_notes: int = Field(12, ge=1, le=10**6)
    min_seconds: float = Field(4.0, gt=0)
    max_seconds: float = Field(1800.0, gt=0)
    segment_seconds: float = Field(48.0, gt=4)
    """Longer pieces are cut at bar lines into segments of about this length."""
    max_polyphony: int = Field(24, ge=1, le=128)
    workers: int = Field(0, ge=0, le=1024)
    """Worker processes; 0 = one per core."""
    splits: SplitShares = SplitShares()
    tokenizer: TokenizerConfig = TokenizerConfig()

    @model_validator(mode="after")
    def _some_length(self) -> PreprocessConfig:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds = {self.min_seconds:g} is not below max_seconds = {self.max_seconds:g}")
        return self


class LabelConfig(Section):
    seed: Seed = 0
    folds: int = Field(5, ge=2, le=20)
    bootstrap: int = Field(1000, ge=100, le=10**6)
    pairs_per_image: int = Field(8, ge=1, le=1000)
    """k of the k nearest pieces in VA space."""
    pairing_map: Literal["none", "affine", "rank"] = "rank"
    """How the pictures' VA distribution is mapped into the music's before pairing."""
    request_map: Literal["identity", "shrunk", "people", "rank"] = "rank"
    """What a model asks of the music for a picture (label.va_map.request_map). Models keep theirs: `huesong pictures fit`."""
    labels_from: str = ""
    """A model folder, such as models/huesong-small, whose labellers label what too few people rated to fit own ones; empty =
    none. Its pictures need its encoder: preprocess.encoder: models/huesong-small/encoder."""
    max_load: float = Field(3.0, ge=1)
    """No piece is paired more often than this times its fair share."""


class NetworkConfig(Section):
    width: int = Field(128, ge=16, le=4096)
    heads: int = Field(4, ge=1, le=128)
    kv_heads: int = Field(0, ge=0, le=256)
    """Heads of keys and values in self-attention, shared by those of queries; 0 = as many. Fewer make sampling faster."""
    encoder_layers: int = Field(3, ge=1, le=48)
    decoder_layers: int = Field(3, ge=1, le=48)
    feed_forward: int = Field(4, ge=1, le=16)
    """Width of the feed-forward layer as a multiple of `width`."""
    dropout: float = Field(0.1, ge=0, lt=1)
    positions: Literal["absolute", "rotary"] = "rotary"
    smear: bool = True
    """Whether each key is mixed with the key before it, so that the network soon learns to look back."""
    recall: bool = True
    """Whether each token is read together with what the bar that the plan refers to has next."""
    image_tokens: bool = True
    """Whether the music attends to what an encoder sees in the picture, beside its valence and arousal; else to learnt tokens.
    It adds nothing that could be measured (docs/pictures.md). Without it another encoder needs no training."""
    context: int = Field(1024, ge=32, le=65536)
    """Longest token sequence the network attends to."""

    @model_validator(mode="after")
    def _shared_evenly(self) -> NetworkConfig:
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads = {self.kv_heads} does not divide heads = {self.heads}: take a divisor of it, or 0"
            )
        return self


class CriticConfig(Section):
    """The music-VA critic: a small Transformer over token embeddings, frozen after its own training."""

    width: int = Field(96, ge=16, le=4096)
    heads: int = Field(4, ge=1, le=128)
    layers: int = Field(2, ge=1, le=48)
    dropout: float = Field(0.1, ge=0, lt=1)
    distilled_share: float = Field(0.5, ge=0, lt=1)
    """Share of each batch that carries the music labeller's predictions instead of people's ratings."""
    steps: int = Field(300, ge=1, le=10**8)
    batch_size: int = Field(32, ge=2, le=65536)
    learning_rate: float = Field(1e-3, gt=0)


class ReinforceConfig(Section):
    """Fine-tuning by reward after the pairs: the VA that critic and labeller predict for sampled pieces."""

    steps: int = Field(0, ge=0, le=10**8)
    """0 = none."""
    requests: int = Field(8, ge=1, le=65536)
    samples: int = Field(4, ge=2, le=4096)
    """Pieces a request: each is rewarded against the others."""
    seconds: float = Field(12.0, ge=4, le=60)
    """Length of the sampled pieces."""
    reach: float = Field(0.8, gt=0, le=1)
    """Emotions asked without a picture are drawn evenly from [-reach, reach]."""
    temperature: float = Field(1.0, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    kl_weight: float = Field(0.1, ge=0)
    """How strongly the network is held near the supervised one."""
    batch_size: int = Field(16, ge=1, le=65536)
    """Pieces a backward pass."""
    checkpoint_every: int = Field(5, ge=1)


class TrainConfig(Section):
    seed: Seed = 0
    """Of the pairs phase: drawn rows, windows, dropout."""
    base_seed: Seed = 0
    """Of what runs with other seeds and objectives share: the critic, the first weights, pre-training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast on CUDA, float32 elsewhere."""
    threads: int = Field(0, ge=0, le=1024)
    """CPU threads of torch in each process; 0 = all cores. Part of what bit-for-bit resumption depends on."""
    processes: int = Field(0, ge=0, le=1024)
    """Processes that share every batch; 0 = one for each GPU, one without any. Draws of
    dropout depend on it."""
    compile: bool = False
    """Whether torch.compile makes kernels of the training step's Transformer; needs a C++ compiler. They round differently,
    so compiled runs have checkpoints of their own."""
    start_from: str = ""
    """A model folder whose weights training goes on from, as for fine-tuning; empty = from random ones."""
    network: NetworkConfig = NetworkConfig()
    critic: CriticConfig = CriticConfig()
    pretrain_steps: int = Field(0, ge=0, le=10**8)
    """Steps on all training segments without pictures before the pairs; 0 = none."""
    pretrain_learning_rate: float = Field(1.5e-3, gt=0)
    steps: int = Field(300, ge=1, le=10**8)
    batch_size: int = Field(16, ge=1, le=65536)
    """Pieces a backward pass; `ce+contrastive` compares them with each other."""
    accumulate: int = Field(1, ge=1, le=65536)
    """Backward passes a step, each of pieces of like length."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Of pre-training. `muon`: Muon for the matrices of linear layers, AdamW for the rest."""
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(30, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    tempo_weight: float = Field(8.0, gt=0)
    """Weight of tempo tokens in the cross-entropy of the pairs phase: one token in hundreds, and most of the arousal."""
    objective: Literal["ce", "ce+va_head", "ce+va_critic", "ce+contrastive"] = "ce+va_head"
    va_weight: float = Field(0.5, ge=0)
    """Weight of the VA loss (or of the contrastive loss)."""
    va_temperature: float = Field(1.0, gt=0)
    """Temperature of the straight-through Gumbel softmax that the critic reads, at the first step."""
    va_temperature_end: float = Field(0.5, gt=0)
    """Temperature at the last step; geometric in between."""
    image_va_weight: float = Field(0.5, ge=0)
    """Weight of the image VA head's loss (only where the encoder is trained with the model)."""
    condition_dropout: float = Field(0.15, ge=0, lt=1)
    """Share of training pieces whose condition is dropped, so that guidance works; and share that do not say their style."""
    repeats: float = Field(0.2, ge=0, lt=1)
    """Share of training rows that are a passage and its repeat, exact or in another key: so copying is learnt soon."""
    transpose: bool = True
    """Whether every training row is moved into a key drawn at random."""
    eval_every: int = Field(50, ge=1)
    eval_batches: int = Field(8, ge=1, le=10**6)
    patience: int = Field(6, ge=1)
    """Early stopping: evaluations without improvement of the validation loss."""
    checkpoint_every: int = Field(100, ge=1)
    reinforce: ReinforceConfig = ReinforceConfig()


class SamplingConfig(Section):
    """How a piece is sampled.

    The defaults are what everybody who composes gets; a field with a description is an option of `huesong compose`.
    """

    seconds: float = Field(30.0, ge=4, le=600, description="Length of the piece, 4 to 600.")
    temperature: float = Field(1.0, gt=0, le=100, description="Below 1: more expected; above: more daring.")
    top_p: float = Field(0.97, gt=0, le=1, description="Share of the probability that is sampled from.")
    guidance: float = Field(1.0, ge=0, le=100, description="How strongly the emotion is followed; 1 = off.")
    """Classifier-free guidance: logits = u + guidance * (c - u)."""
    candidates: int = Field(4, ge=1, le=256, description="Compose n, keep the nearest in emotion.")
    """Best of n: the piece that critic and music labeller score nearest to the request."""
    steering: int = Field(8, ge=1, le=256)
    """Parts of a piece; after each the candidates are scored and the nearer ones continued. 1 = choose at the end only."""
    max_polyphony: int = Field(24, ge=1, le=128, description="Most notes at once, but for the closing chord.")
    max_notes_per_second: float = Field(30.0, ge=1, le=1000, description="Most notes that begin in a second.")
    max_silence: float = Field(1.0, gt=0, le=600, description="Longest silence in seconds.")
    """96 of 100 rated training pieces have none above 1 s (docs/lab-diary.md)."""


class EvaluationSampling(SamplingConfig):
    """Sampling settings with the evaluation's own defaults."""

    seconds: float = Field(15.0, ge=4, le=600)
    candidates: int = Field(1, ge=1, le=256)


class SecondJudgeConfig(Section):
    """The second judge: small Transformers over notes, averaged (evaluate/note_judge.py)."""

    members: int = Field(4, ge=1, le=5)
    """Networks, each with another fifth of the groups left out."""
    steps: int = Field(200, ge=1, le=10**8)
    """Of each network."""
    width: int = Field(64, ge=16, le=4096, multiple_of=4)
    layers: int = Field(2, ge=1, le=48)
    dropout: float = Field(0.3, ge=0, lt=1)
    context: int = Field(192, ge=16, le=65536)
    """Notes read at once; a longer piece is read in parts."""
    batch_size: int = Field(24, ge=2, le=65536)
    learning_rate: float = Field(1e-3, gt=0)


class EvaluateConfig(Section):
    seed: Seed = 0
    per_picture: int = Field(1, ge=1, le=1000)
    """Pieces composed for each picture of the test split."""
    max_pictures: int = Field(200, ge=1, le=10**6)
    grid_seeds: int = Field(2, ge=1, le=1000)
    """Pieces composed for each of the 5 x 5 requested emotions of the grid."""
    batch_size: int = Field(16, ge=1, le=65536)
    """Requests that one process answers side by side."""
    workers: int = Field(0, ge=0, le=1024)
    """Processes that compose; 0 = one a core. The pieces do not depend on it."""
    bootstrap: int = Field(1000, ge=100, le=10**6)
    report_pieces: int = Field(8, ge=0, le=1000)
    """Pieces with player and piano roll in report.html."""
    second_judge: SecondJudgeConfig = SecondJudgeConfig()
    baselines: bool = True
    """Whether the baselines answer the same requests."""
    unconditional: int = Field(1000, ge=0, le=10**6)
    """Most requests, evenly spread, that the model without a condition answers; 0 = leave it out."""
    novelty_pieces: int = Field(300, ge=0, le=10**6)
    """Held-out pieces whose copied passages are the reference for novelty."""
    quality_pieces: int = Field(200, ge=0)
    """Composed pieces, evenly spread, whose musical quality is measured; 0 = leave it out."""
    sampling: EvaluationSampling = EvaluationSampling()


class RegisterConfig(Section):
    model_name: str = Field("huesong", min_length=1, max_length=200)
    experiment: str = Field("huesong", min_length=1, max_length=250)
    # `huesong retrain --drift`: the population stability index above which what is asked counts as moved, and of how many
    # pictures at least it is told.
    drift_psi: float = Field(0.25, gt=0)
    drift_pictures: int = Field(200, ge=1)

    @field_validator("model_name")
    @classmethod
    def _as_the_registry_allows(cls, name: str) -> str:
        if not re.fullmatch(r"[\w.-][\w. -]*", name):
            raise ValueError("a model's name has letters, digits, spaces and . _ - alone")
        return name


class Params(Section):
    """The whole of params.yaml."""

    preprocess: PreprocessConfig = PreprocessConfig()
    label: LabelConfig = LabelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    register_: RegisterConfig = Field(RegisterConfig(), alias="register")


OLD_KEYS: dict[str, str] = {
    "train.preset": "the paper's network is presets/paper.yaml (`huesong settings use paper`)",
    "train.va_loss": "delete it; the VA loss is smooth L1",
}
"""Keys of earlier versions, by their dotted path, and what to write in their place."""


def load_params(path: Path) -> Params:
    """Read and check `path`.

    Raises:
        UserError: missing file, broken YAML, an unknown key (names the nearest known one) or a bad value.
    """
    raw = read_yaml(path, "name a params file with --params")
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold one section a stage, not a {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError(describe(error, path)) from error


def describe(error: ValidationError, path: Path, model: type[Section] = Params) -> str:
    """The first problem of a pydantic error of `model` as one line: file, key, what is wrong, the remedy."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        if key in OLD_KEYS:
            return f"{path}: the key '{key}' is gone: {OLD_KEYS[key]}"
        known = known_keys(location[:-1], model)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)
        return f"{path}: unknown key '{key}'; did you mean '{near[0]}'? (known: {', '.join(known)})"
    if first["type"] == "missing":
        return f"{path}: {key} is missing"
    if isinstance(first["input"], dict) and first["type"] == "value_error":  # of several keys, which the message names
        return f"{path}: {f'{key}: ' if key else ''}{first['ctx']['error']}"
    given = repr(first["input"])
    return f"{path}: {key} = {given if len(given) <= 60 else given[:57] + '...'}: {first['msg']}"


def known_keys(location: list[str], model: Any = Params) -> list[str]:
    """Keys of the section at `location` (a path of keys from the top of `model`)."""
    for part in location:
        if get_origin(model) is dict:  # any key, one kind of section
            model = get_args(model)[1]
        else:
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = fields[part].annotation
            if get_origin(model) is UnionType:  # `Section | None`
                model = get_args(model)[0]
    return [field.alias or name for name, field in model.model_fields.items()]
