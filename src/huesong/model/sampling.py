"""Sampling: requests go in, token ids of whole pieces come out, one token a step, many pieces at a time.

Every piece is drawn by its own random generator from logits rounded to 0.001, so that a request with a seed gives the
same piece whatever else is in the batch (matrix products of other sizes differ in their last bits). The token grammar
masks each step; classifier-free guidance runs every piece twice, with and without its request (Ho & Salimans 2022).

Of several candidates for a request those that are heard nearer to it are continued, several times over (sequential
Monte Carlo steering, Lew et al. 2023), and the nearest is kept at the end.

Shapes: R requests, B pieces being sampled, N rows of the network (B, or 2 B with guidance), T tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from huesong.config import SamplingConfig
from huesong.model.folder import Model
from huesong.model.network import KVCache
from huesong.model.requests import Condition, Request, asked_of, condition_of
from huesong.music.grammar import Grammar, Limits, Phase, State
from huesong.runtime.errors import UserError

MOST_PIECES = 32
"""Pieces sampled side by side; more wait."""
ROUNDING = 1000.0
"""Logits are rounded to 1 / ROUNDING."""
KEPT_SHARE = 0.5
"""When a piece outgrows the context, its last bars that fit this share of the context are read anew."""

STEERING_TEMPERATURE = 0.1
"""A candidate that is heard this much further from its request is continued 1/e times as often."""

OnStep = Callable[[float], None]
"""Told after each step which share of the asked length has been composed, 0 to 1."""
Scorer = Callable[[Sequence[list[int]]], np.ndarray]
"""Hears valence and arousal [n, 2] in n pieces, given as token ids."""


@dataclass(frozen=True)
class Sample:
    """A composed piece.

    ids: without BOS and EOS. requested: valence and arousal asked of the network (of a course its mean over time).
    predicted: the picture's own (nan without a picture). critic: what the critic hears in the piece.
    """

    ids: list[int]
    requested: tuple[float, float]
    predicted: tuple[float, float]
    critic: tuple[float, float]


@dataclass
class Hypothesis:
    """A piece in the making."""

    condition: Condition
    state: State
    generator: torch.Generator
    next_id: int
    seed: int = 0
    """The request's."""
    ids: list[int] = field(default_factory=list)
    """As written down."""
    read: list[int] = field(default_factory=list)
    """As the network reads them: before notes are cut off at the last chord."""
    bars: list[tuple[int, int]] = field(default_factory=list)
    """For each bar: where it begins in `read`, and the tempo (index) in force there."""

    @property
    def share(self) -> float:
        """How much of the asked length is there."""
        if self.state.done:
            return 1.0
        asked = self.state.asked
        done = self.state.seconds / asked.seconds if asked.seconds else self.state.bar / (asked.bars or 1)
        return min(1.0, max(0.0, done))


@torch.inference_mode()
def sample(
    model: Model,
    requests: Sequence[Request],
    config: SamplingConfig,
    on_step: OnStep | None = None,
    scorer: Scorer | None = None,
) -> list[Sample]:
    """Compose a piece for every request; of `config.candidates` pieces each, the one heard nearest to it.

    Args:
        model: a loaded model folder.
        requests: what to compose; each brings its own length (`config.seconds` is not read).
        config: temperature, top-p, guidance (see `guidance_of`), candidates and caps.
        on_step: progress.
        scorer: hears the candidates together with the critic, the mean of both counts; None = the critic alone.

    Raises:
        UserError: a request with neither a picture nor both valence and arousal, or with a value, course, primer or
            tempo that does not fit.
    """
    samples = []
    with _one_thread(model.device):
        hypotheses = roll_out(model, requests, config, on_step, scorer)
        for start in range(0, len(hypotheses), config.candidates):
            own = hypotheses[start : start + config.candidates]
            kept = own[int(np.argmin(distances(model, own, scorer)))] if len(own) > 1 else own[0]
            condition = kept.condition
            samples.append(Sample(kept.ids, condition.requested, condition.predicted, predict_va(model, kept.ids)))
    return samples


def distances(model: Model, hypotheses: Sequence[Hypothesis], scorer: Scorer | None) -> np.ndarray:
    """How far what is heard in each piece, finished or not, is from what was asked of it so far [n]."""
    heard_N2 = np.array([predict_va(model, hypothesis.ids) for hypothesis in hypotheses])
    if scorer is not None:
        heard_N2 = (heard_N2 + scorer([hypothesis.ids for hypothesis in hypotheses])) / 2
    return np.hypot(
        *(heard_N2 - np.array([hypothesis.condition.until(hypothesis.share) for hypothesis in hypotheses])).T
    )


@torch.inference_mode()
def roll_out(
    model: Model,
    requests: Sequence[Request],
    config: SamplingConfig,
    on_step: OnStep | None = None,
    scorer: Scorer | None = None,
) -> list[Hypothesis]:
    """All candidates of all requests, finished, in order; arguments and errors as in `sample`."""
    config = config.model_copy(update={"guidance": guidance_of(model, config)})
    with _one_thread(model.device):
        conditions = [condition_of(model, request) for request in requests]
        hypotheses = [
            first_hypothesis(model, request, condition, k, config)
            for request, condition in zip(requests, conditions, strict=True)
            for k in range(config.candidates)
        ]
        most = max(1, MOST_PIECES // config.candidates) * config.candidates
        finished: list[Hypothesis] = []
        for start in range(0, len(hypotheses), most):
            report = (
                None if on_step is None else _part_of(on_step, start / len(hypotheses), min(1, most / len(hypotheses)))
            )
            finished += _run(model, hypotheses[start : start + most], config, report, scorer)
    return finished


def guidance_of(model: Model, config: SamplingConfig) -> float:
    """The settings' guidance, but 1 for a model that never went without its condition: it has nothing to guide away from.

    0 stays, for it asks for the music without a condition, as the evaluation's baseline does.
    """
    learned = model.config.get("training", {}).get("config", {})
    return 1.0 if config.guidance and learned.get("condition_dropout") == 0 else config.guidance


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, one thread: a step's matrices are too small to share, and sums must not depend on the core count."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _part_of(whole: OnStep, done: float, share: float) -> OnStep:
    """Progress of a part, told as progress of the whole."""
    return lambda part: whole(min(1.0, done + share * part))


def first_hypothesis(
    model: Model, request: Request, condition: Condition, candidate: int, config: SamplingConfig
) -> Hypothesis:
    """A piece that has only BOS, or its primer, with the generator of (seed, candidate).

    Raises:
        UserError: the primer is no music of this vocabulary, or longer than the context or the piece; or the tempo
            cannot be had.
    """
    grammar = model.grammar
    asked = asked_of(grammar, request)
    if request.primer and request.tempo is not None:
        raise UserError("a primer brings its own tempo: leave out --tempo")
    generator = generator_of(request.seed, candidate)
    limits = Limits(
        polyphony=config.max_polyphony, notes_per_second=config.max_notes_per_second, silence=config.max_silence
    )
    hypothesis = Hypothesis(condition, grammar.start(asked, limits), generator, model.vocabulary.bos, request.seed)
    if len(request.primer) >= model.network.config.context:
        raise UserError(
            f"the primer has {len(request.primer)} tokens, the model attends to {model.network.config.context}: "
            "take a shorter one"
        )
    if grammar.count_violations(request.primer):
        raise UserError("the primer was not written with this model's vocabulary: encode it with its tokenizer")
    for token in request.primer:
        _append(grammar, hypothesis, token)
        if hypothesis.state.phase >= Phase.LAST_BAR or hypothesis.state.latest_end > hypothesis.state.last_onset:
            length = f"{request.seconds:g} s" if request.bars is None else f"{request.bars} bars"
            raise UserError(f"the primer is too long for a piece of {length}: ask for more, or take a shorter one")
    return hypothesis


def generator_of(*key: int | str) -> torch.Generator:
    """The random generator of a key."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _run(
    model: Model, hypotheses: list[Hypothesis], config: SamplingConfig, on_step: OnStep | None, scorer: Scorer | None
) -> list[Hypothesis]:
    """Sample all hypotheses to their ends; with several candidates a request, part by part."""
    parts = config.steering if config.candidates > 1 else 1
    for part in range(1, parts + 1):
        _advance(model, hypotheses, config, part / parts, on_step)
        if part < parts:
            groups = [
                hypotheses[start : start + config.candidates] for start in range(0, len(hypotheses), config.candidates)
            ]
            hypotheses = [hypothesis for group in groups for hypothesis in resample(model, group, scorer, part)]
    return hypotheses


def resample(model: Model, group: Sequence[Hypothesis], scorer: Scorer | None, part: int) -> list[Hypothesis]:
    """As many candidates as before, drawn from them by how near each is heard to its request so far.

    Systematic resampling: a candidate of weight w is continued floor(n w) or ceil(n w) times. Each continuation draws
    with a generator of its own.
    """
    weight_C = np.exp(-distances(model, group, scorer) / STEERING_TEMPERATURE) + 1e-12
    edge_C = np.cumsum(weight_C / weight_C.sum())
    uniform = float(torch.rand(1, generator=generator_of(group[0].seed, "steer", part), dtype=torch.float64))
    chosen = np.minimum(np.searchsorted(edge_C, (uniform + np.arange(len(group))) / len(group)), len(group) - 1)
    return [
        replace(
            group[row], state=copy.deepcopy(group[row].state), generator=generator_of(group[0].seed, place, part),
            ids=list(group[row].ids), read=list(group[row].read), bars=list(group[row].bars),
        )
        for place, row in enumerate(chosen)
    ]  # fmt: skip


def _advance(
    model: Model, hypotheses: list[Hypothesis], config: SamplingConfig, until: float, on_step: OnStep | None
) -> None:
    """Sample hypotheses until each is done, or begins the first bar after this share of its length."""
    network, grammar, device = model.network, model.grammar, model.device
    guided = config.guidance != 1
    copies = 2 if guided else 1

    def waits(hypothesis: Hypothesis) -> bool:
        return hypothesis.state.done or (
            until < 1 and hypothesis.share >= until and bool(grammar.table.bar[hypothesis.next_id])
        )

    active = [hypothesis for hypothesis in hypotheses if not waits(hypothesis)]
    if not active:
        return
    cache = network.new_cache(*_asked(active, copies, device))
    _prime(model, active, cache, copies)
    while active:
        _make_room(model, active, cache, copies)
        ids_B = torch.tensor([hypothesis.next_id for hypothesis in active], device=device)
        logits_NV = network.step(ids_B.repeat(copies)[:, None], cache)[:, -1].to("cpu", torch.float64)
        logits_BV = logits_NV
        if guided:
            asked_BV, free_BV = logits_NV.chunk(2)
            logits_BV = free_BV + config.guidance * (asked_BV - free_BV)
        for row, hypothesis in enumerate(active):
            if (leaning := grammar.leaning(hypothesis.state)) is not None:
                logits_BV[row] += torch.from_numpy(leaning)
        allowed_BV = torch.from_numpy(grammar.masks([hypothesis.state for hypothesis in active]))
        uniform_B = torch.cat(
            [torch.rand(1, generator=hypothesis.generator, dtype=torch.float64) for hypothesis in active]
        )
        drawn = draw(logits_BV, allowed_BV, uniform_B, config).tolist()
        for hypothesis, token in zip(active, drawn, strict=True):
            _append(grammar, hypothesis, token)
        if on_step is not None:
            on_step(float(np.mean([hypothesis.share for hypothesis in hypotheses])))
        going = [row for row, hypothesis in enumerate(active) if not waits(hypothesis)]
        if len(going) < len(active):
            rows = [row + copy * len(active) for copy in range(copies) for row in going]
            active = [active[row] for row in going]
            if active:
                cache = cache.select(torch.tensor(rows, device=device))
        # A course moves on with every bar, as the labels of training did not change within one.
        if active and any(
            hypothesis.condition.changes and grammar.table.bar[hypothesis.next_id] for hypothesis in active
        ):
            network.recondition(cache, *_asked(active, copies, device))


def _asked(hypotheses: list[Hypothesis], copies: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Image tokens [N, S, D], request [N, 2] at the present point of each piece, and whether a row keeps them [N]."""
    pictures_BSD = torch.cat([hypothesis.condition.picture_tokens_1SD for hypothesis in hypotheses])
    va_B2 = torch.tensor([hypothesis.condition.at(hypothesis.share) for hypothesis in hypotheses], device=device)
    keep_N = torch.arange(copies * len(hypotheses), device=device) < len(hypotheses)
    return pictures_BSD.repeat(copies, 1, 1), va_B2.repeat(copies, 1), keep_N


def _prime(model: Model, hypotheses: list[Hypothesis], cache: KVCache, copies: int) -> None:
    """Let the rows of pieces that have begun read what is there but for the newest token."""
    for row in range(copies * len(hypotheses)):
        hypothesis = hypotheses[row % len(hypotheses)]
        if hypothesis.read:
            known = [model.vocabulary.bos, *hypothesis.read[:-1]]
            if len(known) >= cache.capacity:
                known = last_bars(
                    model.grammar, hypothesis.read[:-1], hypothesis.bars, int(KEPT_SHARE * cache.capacity)
                )
            known = known[1 - cache.capacity :]  # a tiny context may not hold the unfolded first bar
            model.network.reprime(cache, row, torch.tensor(known, device=model.device))


def draw(logits_BV: Tensor, allowed_BV: Tensor, uniform_B: Tensor, config: SamplingConfig) -> Tensor:
    """Token ids [B]: temperature, then nucleus sampling (top-p: Holtzman et al. 2020), then inversion of the CDF.

    Args:
        logits_BV: float64.
        allowed_BV: bool; at least one token a row.
        uniform_B: float64, uniform in [0, 1).
        config: temperature and top-p.
    """
    rounded_BV = torch.round(logits_BV * ROUNDING) / ROUNDING
    masked_BV = (rounded_BV / config.temperature).masked_fill(~allowed_BV, -torch.inf)
    sorted_BV, order_BV = masked_BV.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
    # The most probable token always stays; so never is a forbidden one drawn, whatever the rounding of the sums.
    kept_BV = sorted_BV * ((before_BV < config.top_p) & (sorted_BV > 0))
    cumulative_BV = kept_BV.cumsum(dim=-1)
    target_B1 = (uniform_B * cumulative_BV[:, -1])[:, None]
    place_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
    last_B1 = (kept_BV > 0).sum(dim=-1, keepdim=True) - 1
    return order_BV.gather(-1, torch.minimum(place_B1, last_B1))[:, 0]


def _append(grammar: Grammar, hypothesis: Hypothesis, token: int) -> None:
    if grammar.table.bar[token]:
        hypothesis.bars.append((len(hypothesis.read), hypothesis.state.tempo))
    hypothesis.read.append(token)
    hypothesis.next_id = token
    hypothesis.ids += grammar.advance(hypothesis.state, token)


def _make_room(model: Model, active: list[Hypothesis], cache: KVCache, copies: int) -> None:
    """Let every row that has filled the context forget all but its last bars."""
    if cache.longest < cache.capacity:
        return
    for row, length in enumerate(cache.lengths_B.tolist()):
        if length == cache.capacity:
            hypothesis = active[row % len(active)]
            # The newest token is not in the cache yet: the next step reads it.
            kept = last_bars(model.grammar, hypothesis.read[:-1], hypothesis.bars, int(KEPT_SHARE * cache.capacity))
            kept = kept[1 - cache.capacity :]  # a tiny context may not hold the unfolded first bar
            model.network.reprime(cache, row, torch.tensor(kept, device=model.device))
    assert cache.longest < cache.capacity, "re-priming makes room"


def last_bars(grammar: Grammar, ids: list[int], bars: list[tuple[int, int]], room: int) -> list[int]:
    """The last whole bars of `ids` that fit into `room` tokens, the tempo in force named at their beginning.

    A bar longer than that keeps its last `room` tokens. `bars`: (index in ids, tempo index) of each bar.
    """
    fitting = [(start, tempo) for start, tempo in bars if len(ids) - start <= room - 3 and start < len(ids)]
    if not fitting:
        return ids[-room:]
    start, tempo = fitting[0]
    kept = ids[start:]
    table = grammar.table
    if tempo < 0:
        return kept
    # A segment in training begins "Bar, Position 0, Tempo": unfold what says so, and name the tempo there.
    head: list[tuple[str, int]] = []
    count = 0
    while count < len(kept) and len(head) < 2:
        head += table.base[kept[count]]
        count += 1
    rest = head[1:]
    if rest and rest[0] == ("Position", 0):
        rest = rest[1:]
    if not rest or rest[0][0] != "Tempo":
        rest = [("Tempo", tempo), *rest]
    begin = [("Bar", 0), ("Position", 0), *rest]
    return [table.ids[kind][value] for kind, value in begin] + kept[count:]


def predict_va(model: Model, ids: list[int]) -> tuple[float, float]:
    """The critic's valence and arousal of a piece; of a piece longer than the context, the mean over its parts."""
    context = model.network.config.context
    parts = [ids[start : start + context] for start in range(0, len(ids), context)]
    heard_P2 = torch.stack([model.critic(torch.tensor([part], device=model.device))[0] for part in parts])
    weight_P1 = torch.tensor([[len(part)] for part in parts], device=model.device, dtype=heard_P2.dtype)
    valence, arousal = ((heard_P2 * weight_P1).sum(dim=0) / weight_P1.sum()).tolist()
    return float(valence), float(arousal)
