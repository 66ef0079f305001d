"""Sampling: requests go in, token ids of whole pieces come out, one token a step, many pieces at a time.

Every piece is drawn by its own random generator from logits rounded to 0.001, so that a request with a seed gives the
same piece whatever else is in the batch (matrix products of other sizes differ in their last bits). The token grammar
masks each step; classifier-free guidance runs every piece twice, with and without its request (Ho & Salimans 2022).

Of several candidates for a request those that are scored nearer to it are continued, several times over (sequential
Monte Carlo steering, Lew et al. 2023), and the nearest is kept at the end.

Shapes: R requests, B pieces being sampled, N rows of the network (B, or 2 B with guidance), T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from huesong.config import SamplingConfig
from huesong.model.decoding.cache import KVCache
from huesong.model.decoding.draw import Generator, draw, plausible
from huesong.model.folder import Model
from huesong.model.requests import Conditioning, Request, Sampled, conditioning_of, constraints_of, plan_of
from huesong.music.form.plan import Plan, Relation
from huesong.music.grammar import Grammar, LastRead, State
from huesong.music.oddness import oddness
from huesong.music.vocabulary import TokenTable
from huesong.runtime.errors import UserError
from huesong.runtime.workers import one_thread_of_blas

MOST_PIECES = 32
"""Pieces sampled side by side; more wait."""
KEPT_SHARE = 0.5
"""When a piece outgrows the context, its last bars that fit this share of the context are read anew."""

RETURNING: dict[Relation, float] = {"new": 1.0, "repeat": 0.6, "variation": 0.8, "sequence": 0.8}
"""Factor of the temperature in bars that return: what the plan brings back is to be known again."""
STEERING_TEMPERATURE = 0.1
"""A candidate that is scored this much further from its request is continued 1/e times as often."""

OnStep = Callable[[float], None]
"""Told after each step which share of the asked length has been composed, 0 to 1."""
Scorer = Callable[[Sequence[list[int]]], np.ndarray]
"""A VA scorer: valence and arousal [n, 2] of n pieces, given as token ids."""


@dataclass
class Hypothesis:
    """A candidate for a request, as far as it is sampled."""

    conditioning: Conditioning
    plan: Plan
    state: State
    generator: Generator
    next_id: int
    seed: int = 0
    """The request's."""
    ids: list[int] = field(default_factory=list)
    """As written down."""
    read: list[int] = field(default_factory=list)
    """As the network reads them: before notes are cut off at the last chord."""
    bars: list[int] = field(default_factory=list)
    """Where each bar begins in `read`."""
    memory: KVCache | None = None
    """What the network has kept of `read`, but for its newest token: a row with the request, one without under guidance."""

    @property
    def cooler(self) -> float:
        """Factor of the temperature where it stands."""
        return cooler_at(self.plan, self.state.bar)

    @property
    def share(self) -> float:
        """How much of the asked length is there."""
        if self.state.done:
            return 1.0
        return min(1.0, self.state.tick / self.state.end)


def cooler_at(plan: Plan, bar: int) -> float:
    """Factor of the temperature in this bar of a plan, -1 before the first."""
    return RETURNING[plan.bars[bar].relation] if 0 <= bar < len(plan.bars) else 1.0


def sample(
    model: Model,
    requests: Sequence[Request],
    config: SamplingConfig,
    on_step: OnStep | None = None,
    scorer: Scorer | None = None,
) -> list[Sampled]:
    """Compose a piece for every request; of `config.candidates` pieces each, the one scored nearest to it.

    Args:
        model: a loaded model folder.
        requests: what to compose; pictures as rows, primers as token ids.
        config: temperature, top-p, guidance (see `guidance_of`), candidates, caps, and the length of requests without one.
        on_step: progress.
        scorer: scores the candidates together with the critic, the mean of both counts; None = the critic alone.

    Raises:
        UserError: a primer or tempo that does not fit the model or the length.
    """
    pieces = []
    with one_thread_of_blas():  # a step's matrices are too small to share, and sums must not depend on the core count
        hypotheses = roll_out(model, requests, config, on_step, scorer)
        for start in range(0, len(hypotheses), config.candidates):
            group = hypotheses[start : start + config.candidates]
            kept = group[int(np.argmin(distances(model, group, scorer)))] if len(group) > 1 else group[0]
            given = kept.conditioning
            heard = predict_va(model, kept.ids)
            pieces.append(Sampled(kept.ids, given.requested, given.predicted, heard, kept.plan))
    return pieces


def distances(model: Model, hypotheses: Sequence[Hypothesis], scorer: Scorer | None) -> np.ndarray:
    """How far the scores of each piece, finished or not, are from what was asked so far, and how odd it is [n]."""
    scored_N2 = np.array([predict_va(model, each.ids) for each in hypotheses])
    if scorer is not None:
        scored_N2 = (scored_N2 + scorer([each.ids for each in hypotheses])) / 2
    far_N = np.hypot(*(scored_N2 - np.array([each.conditioning.until(each.share) for each in hypotheses])).T)
    return far_N + [oddness(model.grammar.table, each.ids) for each in hypotheses]


def roll_out(
    model: Model,
    requests: Sequence[Request],
    config: SamplingConfig,
    on_step: OnStep | None = None,
    scorer: Scorer | None = None,
) -> list[Hypothesis]:
    """All candidates of all requests, finished, in order; arguments and errors as in `sample`."""
    config = config.model_copy(update={"guidance": guidance_of(model, config)})
    with one_thread_of_blas():
        hypotheses = [start for request in requests for start in first_hypotheses(model, request, config)]
        whole, most = len(hypotheses), max(1, MOST_PIECES // config.candidates) * config.candidates
        finished: list[Hypothesis] = []
        for start in range(0, whole, most):
            report = None if on_step is None else _part_of(on_step, start / whole, min(1, most / whole))
            finished += _run(model, hypotheses[start : start + most], config, report, scorer)
    return finished


def guidance_of(model: Model, config: SamplingConfig) -> float:
    """The settings' guidance, but 1 for a model that never went without its condition: it has nothing to guide away from.

    0 stays, for it asks for the music without a condition, as the evaluation's baseline does.
    """
    learned = model.config.get("training", {}).get("config", {})
    return 1.0 if config.guidance and learned.get("condition_dropout") == 0 else config.guidance


def _part_of(whole: OnStep, done: float, share: float) -> OnStep:
    """Progress of a part, told as progress of the whole."""
    return lambda part: whole(min(1.0, done + share * part))


def first_hypotheses(model: Model, request: Request, config: SamplingConfig) -> list[Hypothesis]:
    """The candidates of a request: only BOS or its primer, each with the generator of (seed, candidate).

    Raises:
        UserError: the primer is no music of this vocabulary, or longer than the context or the piece; or the plan cannot
            be had.
    """
    grammar, context, primer = model.grammar, model.network.config.context, request.primer or ()
    conditioning, found = conditioning_of(model, request), []
    plan = plan_of(model, request, conditioning, config)
    constraints = constraints_of(model, request, plan, config)
    if len(primer) >= context:
        raise UserError(f"the primer has {len(primer)} tokens, the model attends to {context}: take a shorter one")
    if grammar.count_violations(primer):
        raise UserError("the primer was not written with this model's vocabulary: encode it with its tokenizer")
    for candidate in range(config.candidates):
        generator = Generator(request.seed, candidate)
        state = grammar.start(constraints)
        start = Hypothesis(conditioning, plan, state, generator, model.vocabulary.bos, request.seed)
        for token in primer:
            try:
                _append(grammar, start, token)
            except ValueError as error:
                raise UserError(
                    f"the primer is not what its plan says ({error}): give the plan of its own bars"
                ) from error
            if state.last_read >= LastRead.LAST_BAR:
                raise UserError(_too_long(request, state))
        found.append(start)
    return found


def _too_long(request: Request, state: State) -> str:
    """What is said of a primer that runs into the last chord."""
    length = f"{state.constraints.bars} bars" if request.bars is not None else f"{state.end * state.tick_s:.0f} s"
    return (
        f"the primer is too long for a piece of {length}, whose last chord begins after "
        f"{state.last_onset * state.tick_s:.1f} s: ask for more, or take a shorter one"
    )


def _run(
    model: Model,
    hypotheses: list[Hypothesis],
    config: SamplingConfig,
    on_step: OnStep | None,
    scorer: Scorer | None,
) -> list[Hypothesis]:
    """Sample all hypotheses to their ends; with several candidates a request, part by part."""
    parts, size = config.steering if config.candidates > 1 else 1, config.candidates
    for part in range(1, parts + 1):
        _advance(model, hypotheses, config, part / parts, on_step)
        if part < parts:
            groups = [hypotheses[start : start + size] for start in range(0, len(hypotheses), size)]
            hypotheses = [each for group in groups for each in resample(model, group, scorer, part)]
    return hypotheses


def resample(model: Model, group: Sequence[Hypothesis], scorer: Scorer | None, part: int) -> list[Hypothesis]:
    """As many candidates as before, drawn from them by how near each is scored to its request so far.

    Systematic resampling: a candidate of weight w is continued floor(n w) or ceil(n w) times. Each continuation draws
    with a generator of its own.
    """
    weight_C = np.exp(-distances(model, group, scorer) / STEERING_TEMPERATURE) + 1e-12
    edge_C = np.cumsum(weight_C / weight_C.sum())
    uniform = Generator(group[0].seed, "steer", part).uniform()
    chosen = np.minimum(np.searchsorted(edge_C, (uniform + np.arange(len(group))) / len(group)), len(group) - 1)
    return [
        replace(
            group[row],
            state=copy.deepcopy(group[row].state),
            generator=Generator(group[0].seed, place, part),
            ids=list(group[row].ids),
            read=list(group[row].read),
            bars=list(group[row].bars),
        )
        for place, row in enumerate(chosen)
    ]


def _advance(
    model: Model,
    hypotheses: list[Hypothesis],
    config: SamplingConfig,
    until: float,
    on_step: OnStep | None,
) -> None:
    """Sample hypotheses until each is done, or begins the first bar after this share of its length."""
    bar, copies = model.grammar.table.bar, 1 if config.guidance == 1 else 2

    def waits(each: Hypothesis) -> bool:
        return each.state.done or (until < 1 and each.share >= until and bool(bar[each.next_id]))

    active = [each for each in hypotheses if not waits(each)]
    if not active:
        return
    cache = _remembered(model, active, copies)
    while active:
        _make_room(model, active, cache)
        _step(model, active, cache, config)
        if on_step is not None:
            on_step(float(np.mean([each.share for each in hypotheses])))
        going = [row for row, each in enumerate(active) if not waits(each)]
        if len(going) < len(active):
            for row, each in enumerate(active):
                kept = [row + copy * len(active) for copy in range(copies)]
                # Of a changing request the next part reads all anew, as the request is by then.
                lasts = waits(each) and not each.state.done and not each.conditioning.changes
                each.memory = cache.select(kept) if lasts else None
            rows = [row + copy * len(active) for copy in range(copies) for row in going]
            active = [active[row] for row in going]
            if active:
                cache = cache.select(rows)
        # A trajectory moves on with every bar, as the labels of training did not change within one.
        if any(each.conditioning.changes and bar[each.next_id] for each in active):
            model.network.recondition(cache, *_conditions(active, copies))


def _remembered(model: Model, active: list[Hypothesis], copies: int) -> KVCache:
    """A cache of what each has read but its newest token; first all rows with their requests, then those without."""
    for each in active:
        if each.memory is None:
            each.memory = model.network.new_cache(*_conditions([each], copies))
            if each.read:
                for row in range(copies):
                    model.network.prime(each.memory, row, _last_read(model, each, each.memory.capacity))
    kept = [each.memory for each in active if each.memory is not None]
    return KVCache.joined([(memory, row) for row in range(copies) for memory in kept])


def _step(model: Model, active: list[Hypothesis], cache: KVCache, config: SamplingConfig) -> None:
    """Draw a token for each hypothesis and append it; what the plan says before it is read in the same pass."""
    grammar, copies = model.grammar, 1 if config.guidance == 1 else 2
    runs = [_with_planned(grammar, each, cache.capacity - cache.longest) for each in active]
    logits_BV = model.network.next_logits(runs * copies, cache).astype(np.float64)
    allowed_BV = grammar.masks([each.state for each in active])
    if copies == 2:
        with_it_BV, free_BV = np.split(logits_BV, 2)
        logits_BV = free_BV + config.guidance * (with_it_BV - free_BV)
        if config.guidance > 1:  # below, the music without a request has its say
            allowed_BV &= plausible(with_it_BV, allowed_BV)
    for row, each in enumerate(active):
        if (bias_V := grammar.key_bias(each.state)) is not None:
            logits_BV[row] += bias_V
    uniform_B = np.array([each.generator.uniform() for each in active])
    cooler_B = np.array([each.cooler for each in active])
    for each, token in zip(active, draw(logits_BV, allowed_BV, uniform_B, config, cooler_B).tolist(), strict=True):
        _append(grammar, each, token)


def _with_planned(grammar: Grammar, hypothesis: Hypothesis, room: int) -> list[int]:
    """The newest token, and those that the plan says after it, which are appended: at most `room` in all."""
    run = [hypothesis.next_id]
    while hypothesis.state.planned and len(run) < room:
        hypothesis.generator.uniform()  # as if it had been drawn
        _append(grammar, hypothesis, hypothesis.state.planned[0])
        run.append(hypothesis.next_id)
    return run


def _conditions(hypotheses: list[Hypothesis], copies: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image tokens [N, S, D], request [N, 2] at the present point of each piece, and whether a row keeps them [N]."""
    pictures_BSD = np.concatenate([each.conditioning.picture_tokens_1SD for each in hypotheses])
    va_B2 = np.array([each.conditioning.at(each.share) for each in hypotheses], np.float32)
    keep_N = np.arange(copies * len(hypotheses)) < len(hypotheses)
    return np.tile(pictures_BSD, (copies, 1, 1)), np.tile(va_B2, (copies, 1)), keep_N


def _append(grammar: Grammar, hypothesis: Hypothesis, token: int) -> None:
    if grammar.table.bar[token]:
        hypothesis.bars.append(len(hypothesis.read))
    hypothesis.read.append(token)
    hypothesis.next_id = token
    hypothesis.ids += grammar.advance(hypothesis.state, token)


def _make_room(model: Model, active: list[Hypothesis], cache: KVCache) -> None:
    """Let every row that has filled the context forget all but its last bars."""
    if cache.longest < cache.capacity:
        return
    for row, length in enumerate(cache.lengths):
        if length == cache.capacity:
            model.network.prime(cache, row, _last_read(model, active[row % len(active)], cache.capacity))
    assert cache.longest < cache.capacity, "re-priming makes room"


def _last_read(model: Model, hypothesis: Hypothesis, capacity: int) -> list[int]:
    """What a row reads anew: all so far if it fits, else the last bars; but the newest token, which the next step reads."""
    known = [model.vocabulary.bos, *hypothesis.read[:-1]]
    if len(known) >= capacity:
        known = [model.vocabulary.bos, *last_bars(model.grammar, hypothesis, int(KEPT_SHARE * capacity))]
    return known[1 - capacity :]  # a tiny context may not hold the first bar


def last_bars(grammar: Grammar, hypothesis: Hypothesis, room: int) -> list[int]:
    """The last whole bars read, without the newest token, that fit into `room`, as a segment of training begins.

    Before them stands what the piece began with, and in their first bar the tempo. A bar longer than that keeps its last
    tokens.
    """
    read, bars, table = hypothesis.read[:-1], hypothesis.bars, grammar.table
    begin = read[: bars[0]]
    # Of the first bar: `Position 0` and `Tempo` end its head.
    tempo = next((int(table.tempo[token]) for token in read if table.tempo[token] >= 0), -1)
    named = [table.ids["Position"][0], table.ids["Tempo"][tempo]] if tempo >= 0 else []
    fitting = [start for start in bars if len(begin) + len(named) + len(read) - start <= room and start < len(read)]
    if not fitting:
        return read[-room:]
    kept = read[fitting[0] :]
    if fitting[0] == bars[0]:
        return begin + kept
    # The tempo stands within what an older vocabulary may have as one token: bar, position and note.
    kept = _base_ids(table, kept[:1]) + kept[1:] if table.reach[kept[0]] >= 0 else kept
    head = 1  # the bar's own token, its metre and its head
    while head < len(kept) and table.planned[kept[head]]:
        head += 1
    rest = kept[head:]
    if named and rest and table.opens[rest[0]] == 0:
        rest = _base_ids(table, rest[:1])[1:] + rest[1:]
    return begin + kept[:head] + named + rest


def _base_ids(table: TokenTable, ids: Sequence[int]) -> list[int]:
    """The ids of their base tokens."""
    return [table.ids[kind][value] for token in ids for kind, value in table.base[token]]


def predict_va(model: Model, ids: list[int]) -> tuple[float, float]:
    """The critic's valence and arousal of a piece; of a piece longer than the context, the mean over its parts."""
    context = model.network.config.context
    parts = [ids[start : start + context] for start in range(0, len(ids), context)]
    heard_P2 = np.array([model.critic(np.array(part)) for part in parts])
    weight_P = np.array([len(part) for part in parts], np.float32)
    valence, arousal = (weight_P @ heard_P2 / weight_P.sum()).tolist()
    return float(valence), float(arousal)
