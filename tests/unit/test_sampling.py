from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from symusic import Score

from huesong.config import EvaluationSampling, SamplingConfig
from huesong.model.decoding.draw import PLAUSIBLE, plausible
from huesong.model.requests import Request, Sampled, constraints_of
from huesong.model.sampling import RETURNING, Hypothesis, distances, last_bars, predict_va, resample, roll_out, sample
from huesong.music import tokens
from huesong.music.form import header
from huesong.music.form.analysis import analyse
from huesong.music.form.heads import heads_of
from huesong.music.form.plan import BarPlan, Chord, Plan
from huesong.music.grammar import Constraints, Grammar, State
from huesong.music.oddness import oddness
from huesong.music.reading import parse_score
from huesong.runtime.errors import UserError
from tests import older
from tests.examples import examples
from tests.tiny_music import encoded, grammar, model, modules, pieces, planned, tokenizer, walk

PICTURE = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float16)
PLAIN = EvaluationSampling(guidance=1.5)


def asked(seed: int, seconds: float = 6.0, **changes: object) -> Request:
    length = {} if "bars" in changes else {"seconds": seconds}
    values: dict[str, object] = {"picture": PICTURE, "valence": None, "arousal": 0.5, "seed": seed, **length}
    return Request(**(values | changes))  # type: ignore[arg-type]


def score_of(piece: Sampled) -> Score:
    """As a Composer writes it, read back."""
    return parse_score(bytes(tokens.decode(tokenizer(), piece.ids, piece.plan.tempo).dumps_midi()))


def length(piece: Sampled) -> float:
    return float(score_of(piece).to("second").end())


@examples(12)
@given(
    seed=st.integers(0, 2**62), seconds=st.floats(4, 30), temperature=st.sampled_from([0.3, 0.9, 2.0]),
    top_p=st.sampled_from([0.5, 0.95, 1.0]), guidance=st.sampled_from([0.0, 1.0, 1.5, 4.0]),
)  # fmt: skip
def test_random_weights_still_compose_valid_pieces(
    seed: int, seconds: float, temperature: float, top_p: float, guidance: float
) -> None:
    config = EvaluationSampling(temperature=temperature, top_p=top_p, guidance=guidance)
    made = sample(model(), [asked(seed, seconds), asked(seed + 1, seconds / 2 + 2)], config)
    for piece, wanted in zip(made, (seconds, seconds / 2 + 2), strict=True):
        assert grammar().count_violations(piece.ids) == 0
        assert length(piece) == pytest.approx(wanted, abs=0.02)
        assert length(piece) == pytest.approx(piece.plan.seconds, abs=0.02)


def test_the_same_request_gives_the_same_piece_in_any_company() -> None:
    requests = [asked(seed, 4 + 3 * seed) for seed in range(5)]
    together = sample(model(), requests, PLAIN)
    for index in (0, 2, 4):
        assert sample(model(), [requests[index]], PLAIN)[0] == together[index]
    assert [piece.ids for piece in sample(model(), requests[::-1], PLAIN)][::-1] == [piece.ids for piece in together]


def test_the_number_of_threads_does_not_matter_and_stays_as_it_was() -> None:
    before, made = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        made.append(sample(model(), [asked(0), asked(1)], PLAIN))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert made[0] == made[1]


def test_seed_request_and_picture_matter() -> None:
    other = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float16) * 3
    requests = [asked(0), asked(1), asked(0, arousal=-1.0), asked(0, picture=other)]
    made = [tuple(piece.ids) for piece in sample(model(), requests, EvaluationSampling(guidance=3.0))]
    assert len(set(made)) == 4


def test_requested_and_predicted() -> None:
    from_picture, overridden, blind = sample(
        model(), [asked(0, arousal=None), asked(0), asked(0, picture=None, valence=0.25)], PLAIN
    )
    encoding = model().network.encode_picture(PICTURE[None])
    assert from_picture.requested == pytest.approx(encoding.request_B2[0].tolist())
    assert from_picture.predicted == overridden.predicted == pytest.approx(encoding.va_B2[0].tolist())
    assert overridden.requested == pytest.approx((float(encoding.request_B2[0, 0]), 0.5))
    assert blind.requested == (0.25, 0.5)
    assert blind.predicted is None
    with pytest.raises(UserError, match="valence and an arousal"):
        sample(model(), [asked(0, picture=None)], PLAIN)


@pytest.mark.parametrize("guidance", [1.0, 1.7])
def test_cached_batched_sampling_is_the_plain_algorithm(guidance: float) -> None:
    """Greedy choice, the whole prefix read anew for every token: no cache, no batch, no compaction."""
    config = EvaluationSampling(temperature=1.0, top_p=1e-9, guidance=guidance)  # greedy
    requests = [asked(3, 4.0), asked(4, 7.0)]
    player, rules = model(512), grammar()
    network = modules(512).network
    for request, made in zip(requests, sample(player, requests, config), strict=True):
        picture = network.encode_picture(torch.from_numpy(PICTURE)[None])
        va = torch.tensor([[made.requested[0], 0.5]])
        state = rules.start(constraints_of(player, request, made.plan, config))
        ids, written = [rules.vocabulary.bos], list[int]()
        while not state.done:
            prefix = torch.tensor([ids])
            with_it = network(prefix, picture.tokens_BSD, va, torch.tensor([True]))[0, -1].double()
            without = network(prefix, picture.tokens_BSD, va, torch.tensor([False]))[0, -1].double()
            logits, allowed = without + guidance * (with_it - without), torch.from_numpy(rules.mask(state))
            if guidance > 1:
                allowed &= with_it >= with_it[allowed].max() + math.log(PLAUSIBLE)
            logits = torch.round(logits * 1000).masked_fill(~allowed, -torch.inf)
            ids.append(int(logits.argmax()))
            written += rules.advance(state, ids[-1])
        assert written == made.ids


def test_guidance_chooses_from_what_is_likely_given_the_request() -> None:
    logits_BV = np.array([[3.0, 0.5, -1.0, 9.0], [0.0, -2.9, -3.1, 1.0]])
    allowed_BV = np.array([[True, True, True, False], [True, True, True, False]])
    # log(.05) is -3.0; what the grammar forbids does not count.
    assert plausible(logits_BV, allowed_BV).tolist() == [[True, True, False, False], [True, True, False, False]]


def test_a_model_that_always_had_its_condition_is_not_guided() -> None:
    def made(dropout: float, guidance: float) -> list[int]:
        player = replace(model(), config={"training": {"config": {"condition_dropout": dropout}}})
        return sample(player, [asked(0)], EvaluationSampling(guidance=guidance))[0].ids

    assert made(0.0, 3.0) == made(0.0, 1.0) == made(0.15, 1.0)
    # The settings hold for any other model, and for one that is asked to leave its condition out.
    assert made(0.15, 3.0) == sample(model(), [asked(0)], EvaluationSampling(guidance=3.0))[0].ids != made(0.15, 1.0)
    assert made(0.0, 0.0) == made(0.15, 0.0) != made(0.0, 1.0)


def test_best_of_n_is_the_nearest_to_the_request() -> None:
    requests = [asked(seed, valence=0.9, arousal=-0.9) for seed in (5, 6, 7)]
    best = sample(model(), requests, SamplingConfig(guidance=1.5, candidates=6, steering=1))
    few = sample(model(), requests, SamplingConfig(guidance=1.5, candidates=2, steering=1))
    single = sample(model(), requests, PLAIN)

    def error(piece: Sampled) -> float:
        return float(np.hypot(*np.subtract(piece.critic, piece.requested)))

    for nearest, nearer, any_one in zip(best, few, single, strict=True):
        assert error(nearest) <= error(nearer) <= error(any_one)
        assert nearest.critic == predict_va(model(), nearest.ids)
    assert sum(map(error, best)) < sum(map(error, single))


@pytest.mark.parametrize("context", [32, 64])
def test_pieces_longer_than_the_context(context: int) -> None:
    made = sample(model(context), [asked(seed, 30.0) for seed in range(4)], PLAIN)
    assert max(len(piece.ids) for piece in made) > 2 * context
    for piece in made:
        assert grammar().count_violations(piece.ids) == 0
        assert length(piece) == pytest.approx(30, abs=0.02)
    assert sample(model(context), [asked(2, 30.0)], PLAIN)[0] == made[2]


def reading(rules: Grammar, wanted: Constraints, ids: Sequence[int]) -> Hypothesis:
    """Who has read these tokens, and is about to read one more."""
    hypothesis = Hypothesis(None, None, rules.start(wanted), torch.Generator(), rules.vocabulary.bos)  # type: ignore[arg-type]
    for place, token in enumerate(ids):
        if rules.table.bar[token]:
            hypothesis.bars.append(place)
        hypothesis.read.append(token)
    hypothesis.read.append(rules.vocabulary.eos)
    return hypothesis


@pytest.mark.parametrize("older_one", [False, True])
@pytest.mark.parametrize("metre", [(4, 4), (6, 8)])
def test_last_bars_begin_as_a_piece_does(metre: tuple[int, int], older_one: bool) -> None:
    """What the piece begins with; a whole bar with its head; the tempo, at its first position; and all that follows."""
    rules = older.grammar() if older_one else grammar()
    wanted = planned(30, (4, 4) if older_one else metre, 90.0)
    begin = 0 if older_one else 2
    for seed in range(6):
        ids, _ = walk(rules, wanted, seed, ("any", "Bar", "long")[seed % 3])
        kept = last_bars(rules, reading(rules, wanted, ids), 90)
        base, whole = ([part for token in row for part in rules.table.base[token]] for row in (kept, ids))
        assert len(kept) <= 90 + 12 * older_one  # joined tokens are taken apart where the tempo goes
        assert kept[:begin] == ids[:begin]
        assert base[begin] == ("Bar", 0)
        tempo = next(part for part in whole if part[0] == "Tempo")
        place = base.index(tempo)
        assert base[place - 1] == ("Position", 0)
        assert [kind for kind, _ in base[begin:place]].count("Bar") == 1
        assert rules.count_violations(kept) == 0
        rest = base[place + 1 :]
        assert whole[-len(rest) :] == rest
        if not older_one:
            head = [kind for kind, _ in base[begin + 1 : place - 1]]
            assert head == ["TimeSig", "Left", "New", "Density", "Loudness", "Chord"]
        again = last_bars(rules, reading(rules, wanted, ids), 10**6)
        assert again == ids, "all that fits stays as it was"


def test_a_bar_too_long_for_the_room_keeps_its_last_tokens() -> None:
    rules, wanted = grammar(), planned(4)
    ids, _ = walk(rules, wanted, 1, "Pitch")
    assert last_bars(rules, reading(rules, wanted, ids), 8) == ids[-8:]


@pytest.mark.parametrize("bars", [1, 3, 20])
def test_a_length_in_bars(bars: int) -> None:
    made = sample(model(), [asked(0, bars=bars)], PLAIN)[0]
    assert len(made.plan.bars) == bars
    assert score_of(made).end() / 480 == pytest.approx(made.plan.quarters)


def test_a_tempo_and_a_key() -> None:
    made = sample(model(), [asked(0, 12.0, tempo=77.0, key=(2, False))], PLAIN)[0]
    score = score_of(made)
    assert [float(tempo.qpm) for tempo in score.tempos] == pytest.approx([made.plan.tempo], abs=0.01)
    assert made.plan.key == (2, False)
    assert {note.pitch % 12 for note in score.tracks[0].notes} <= {2, 4, 5, 7, 9, 10, 0, 1}  # D minor
    assert length(made) == pytest.approx(made.plan.seconds, abs=0.02)
    assert length(made) == pytest.approx(12, rel=0.1), "whole bars of an asked tempo"
    assert made.plan.tempo == 77
    assert sample(model(), [asked(0, tempo=77.0, bars=4)], PLAIN)[0].plan.tempo == 77


def test_an_asked_key_is_more_than_its_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    def tonic_share() -> float:
        made = sample(model(), [asked(seed, 12.0, key=(2, False)) for seed in range(96)], PLAIN)
        base = [part for piece in made for token in piece.ids for part in grammar().table.base[token]]
        return float(np.mean([value % 12 == 2 for kind, value in base if kind == "Pitch"]))

    with_its_odds, key_bias = tonic_share(), Grammar.key_bias

    def scale_alone(rules: Grammar, state: State) -> np.ndarray | None:
        known = key_bias(rules, state)
        return None if known is None else np.where(np.isfinite(known), 0.0, -np.inf)

    monkeypatch.setattr(Grammar, "key_bias", scale_alone)
    assert with_its_odds > tonic_share() + 0.015


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tempo": 5000.0}, "--tempo 5000: give quarters a minute from 10 to 400"),
        ({"tempo": 390.0}, "--tempo 390: this model knows"),
        ({"tempo": 100.0, "primer": (1, 2)}, "a primer brings its own tempo"),
    ],
)
def test_a_tempo_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample(model(), [asked(0, **change)], PLAIN)


def test_progress_is_told() -> None:
    told: list[float] = []
    sample(model(), [asked(0), asked(1)], SamplingConfig(guidance=1.5, candidates=2, steering=1), told.append)
    assert told[-1] == 1.0
    assert told == sorted(told)
    assert len(told) > 10


def test_a_trajectory_of_one_value_is_that_value() -> None:
    plain = sample(model(), [asked(0, arousal=0.5)], PLAIN)[0]
    assert sample(model(), [asked(0, arousal=(0.5, 0.5))], PLAIN)[0].ids == plain.ids
    assert sample(model(), [asked(0, arousal=(0.5, -1.0))], PLAIN)[0].ids != plain.ids


def test_bars_that_return_are_sampled_cooler() -> None:
    [piece] = roll_out(model(), [Request(None, 0.2, 0.3, 1, 40.0)], EvaluationSampling())
    seen = []
    for number, bar in enumerate(piece.plan.bars):
        piece.state.bar = number
        assert piece.cooler == RETURNING[bar.relation]
        seen.append(piece.cooler)
    assert min(seen) < max(seen) == 1.0


@pytest.mark.parametrize("picture", [PICTURE, None])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"valence": 3}, "--valence 3: give a number from -1 to 1"),
        ({"arousal": float("nan")}, "--arousal nan: give a number from -1 to 1"),
        ({"arousal": (0.2, -1.5)}, "--arousal -1.5: give a number from -1 to 1"),
        ({"valence": (0.5,)}, "--valence: a trajectory needs at least two values"),
    ],
)
def test_an_emotion_that_cannot_be_asked(picture: np.ndarray | None, change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        asked(0, **({"picture": picture, "valence": 0.0} | change))


def test_the_scorer_has_half_the_say_among_candidates() -> None:
    heard: list[list[int]] = []

    def scorer(pieces: Sequence[list[int]]) -> np.ndarray:
        heard.extend(pieces)
        wish = np.full((len(pieces), 2), -9.0)
        wish[2] = 0.0  # far nearer than the others, whatever the critic says
        return wish

    request = asked(5, valence=0.9)
    made = sample(model(), [request], SamplingConfig(candidates=4, steering=1), scorer=scorer)[0]
    assert len(heard) == 4
    assert made.ids == heard[2]


def test_an_odd_candidate_is_further_from_any_request() -> None:
    found = roll_out(model(), [asked(5, valence=0.9)], SamplingConfig(candidates=2, steering=1))
    table = model().grammar.table
    of_pitch = {base[0][1]: index for index, base in enumerate(table.base) if [kind for kind, _ in base] == ["Pitch"]}

    def music(*pitches: int) -> list[int]:
        return [of_pitch[pitch] for pitch in pitches]

    usual = music(48, 55, 60, 64, 67, 72, 76, 79)
    assert oddness(table, usual * 8) == oddness(table, music(60) * 31) == 0.0
    assert oddness(table, usual * 8 + music(60) * 32 + usual * 8) == pytest.approx(1.0), "its oddest stretch counts"
    assert oddness(table, music(48, 60) * 16) == pytest.approx(0.6), "two pitches in place of five"
    assert oddness(table, music(60, 62, 64, 65, 66) * 8) == pytest.approx(0.5), "six semitones in place of twelve"
    assert oddness(table, music(79, 81, 84, 88, 93) * 8) == pytest.approx(0.5, abs=0.1), "six semitones too high"
    assert oddness(table, music(33, 36, 40, 43, 45) * 8) > 0.3, "too low"
    found[0].ids = music(48, 60) * 16
    critic = predict_va(model(), found[0].ids)
    before, after = (distances(model(), each, lambda pieces: np.zeros((len(pieces), 2))) for each in (found[1:], found))
    far = np.hypot(*(np.array(critic) / 2 - np.array(found[0].conditioning.until(1.0))))
    assert after[0] == pytest.approx(far + 0.6)
    assert after[1] == before[0]


def test_a_primer_is_continued_along_its_plan() -> None:
    first = sample(model(), [asked(1, 12.0)], PLAIN)[0]
    count = next(count for count in range(30, 40) if not grammar().count_violations(first.ids[:count]))
    begin = tuple(first.ids[:count])
    request = asked(2, primer=begin, plan=first.plan)
    alone = sample(model(), [request], PLAIN)[0]
    mixed = sample(model(), [asked(3, 6.0), request], PLAIN)[1]
    assert tuple(alone.ids[:count]) == begin
    assert alone.ids != first.ids
    assert alone.plan == first.plan
    assert mixed == alone
    assert length(alone) == pytest.approx(12, abs=0.02)


def test_what_follows_a_primer_is_planned_for_the_time_that_is_left() -> None:
    score = pieces()[3]
    begun, ids = analyse(score), tuple(tokens.apply_bpe(tokenizer(), encoded(tokenizer(), score)))
    for length_asked in ({"seconds": begun.seconds + 9}, {"bars": len(begun.bars) + 3}):
        made = sample(model(512), [asked(2, primer=ids, primer_plan=begun, **length_asked)], PLAIN)[0]  # type: ignore[arg-type]
        assert tuple(made.ids[: len(ids)]) == ids
        assert made.plan.bars[: len(begun.bars)] == begun.bars
        assert (made.plan.tempo, made.plan.key) == (begun.tempo, begun.key)
        assert grammar().count_violations(made.ids) == 0
        assert length(made) == pytest.approx(made.plan.seconds, abs=0.02)
        assert made.plan.seconds == pytest.approx(
            begun.seconds + 9, abs=1.5 * begun.bars[0].quarters * 60 / begun.tempo
        )
    for too_short in ({"seconds": begun.seconds}, {"bars": len(begun.bars)}):
        with pytest.raises(UserError, match=r"the primer is too long for a piece of .*: it has \d+ bars"):
            sample(model(512), [asked(2, primer=ids, primer_plan=begun, **too_short)], PLAIN)  # type: ignore[arg-type]


def test_a_primer_that_does_not_fit_is_refused() -> None:
    first = sample(model(), [asked(1, 20.0)], PLAIN)[0]
    with pytest.raises(UserError, match="the model attends to 32"):
        sample(model(32), [asked(0, plan=first.plan, primer=tuple(first.ids[:60]))], PLAIN)
    with pytest.raises(UserError, match=r"the primer is too long for a piece of 20 s, whose last chord"):
        sample(model(4096), [asked(0, plan=first.plan, primer=tuple(first.ids))], PLAIN)
    with pytest.raises(UserError, match="vocabulary"):
        sample(model(), [asked(0, plan=first.plan, primer=tuple(first.ids[5:30]))], PLAIN)
    other = replace(first.plan, mode="major" if first.plan.mode == "minor" else "minor")
    second_bar = [at for at, token in enumerate(first.ids) if grammar().table.bar[token]][1]
    with pytest.raises(UserError, match="the primer is not what its plan says"):
        sample(model(512), [asked(0, plan=other, primer=tuple(first.ids[:second_bar]))], PLAIN)


def plan_in(*metres: tuple[int, int], tempo: float = 100.0) -> Plan:
    """A plan of a bar in each metre."""
    count = len(metres)
    bars = tuple(
        BarPlan(metre, "new", 0, "A", count - bar, "", (Chord(0.0, 7, "maj"),)) for bar, metre in enumerate(metres)
    )
    return Plan(7, "major", tempo, bars, (0.6,) * count, (0.4,) * count)


@pytest.mark.parametrize("metre", [(3, 4), (6, 8), (7, 8), (12, 8), (2, 2)])
def test_a_given_plan_is_followed_in_its_metre(metre: tuple[int, int]) -> None:
    plan = plan_in(*[metre] * 5)
    made = sample(model(), [asked(4, plan=plan, style="folk")], PLAIN)[0]
    score = score_of(made)
    assert made.plan is plan
    assert score.end() == pytest.approx(480 * plan.quarters)
    upper, lower = (4, 4) if metre == (2, 2) else metre
    assert [(sign.numerator, sign.denominator) for sign in score.time_signatures] == [(upper, lower)]
    assert float(score.tempos[0].qpm) == pytest.approx(100)
    said = [name for token in made.ids for name in grammar().vocabulary.tokens[token]]
    assert said[:2] == ["Style_folk", "Key_7.major"]
    heads = [name for name in said[2:] if name.partition("_")[0] in header.KINDS]
    assert heads == [name for head in heads_of(plan) for name in head]
    [hypothesis] = roll_out(model(), [asked(4, plan=plan)], PLAIN)
    assert hypothesis.state.chord is not None
    assert (hypothesis.state.chord.root, hypothesis.state.chord.major) == (7, True), "it ends in the plan's key"


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (plan_in((4, 4), (3, 4)), "the plan is in 3/4 and 4/4: this model composes in one metre, of 2/4, 3/4"),
        (plan_in((11, 8)), "the plan is in 11/8: this model composes in one metre"),
        (plan_in((4, 4), tempo=400.0), "--tempo 400: this model knows 40 to 220"),
    ],
)
def test_a_plan_that_cannot_be_followed(plan: Plan, message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample(model(), [asked(0, plan=plan)], PLAIN)


def test_caps_of_a_request() -> None:
    [hypothesis] = roll_out(model(), [asked(0, 5.0)], EvaluationSampling(max_silence=0.5))
    assert hypothesis.state.constraints.silence == 0.5
    thin = sample(model(), [asked(0, 20.0)], EvaluationSampling(max_polyphony=2, max_notes_per_second=4.0))[0]
    score = score_of(thin).to("second")
    notes = sorted((note.time, note.end) for note in score.tracks[0].notes)
    free = [note for note in notes if note[0] < notes[-1][0]]
    for start, _ in free:
        assert sum(begin <= start < end - 1e-6 for begin, end in free) <= 2
        assert sum(start - 1 < begin <= start for begin, _ in free) <= 5  # a position must bring a note


def high_notes(pieces: Sequence[list[int]]) -> np.ndarray:
    """Hears high valence in high notes."""
    table = grammar().table
    pitch = [[v for token in ids for kind, v in table.base[token] if kind == "Pitch"] or [72] for ids in pieces]
    return np.array([[np.clip((np.mean(own) - 72) / 24, -1, 1), 0.0] for own in pitch])


def test_steering_follows_the_scorer_further_than_the_best_of_as_many() -> None:
    requests = [Request(None, 1.0, 0.0, seed, 12.0) for seed in range(12)]
    reached = {}
    for parts in (1, 4):
        made = sample(model(), requests, SamplingConfig(guidance=1.0, candidates=6, steering=parts), scorer=high_notes)
        reached[parts] = high_notes([piece.ids for piece in made])[:, 0].mean()
        for piece in made:
            assert grammar().count_violations(piece.ids) == 0
            assert length(piece) == pytest.approx(12, abs=0.02)
    assert reached[4] > reached[1] + 0.01


def test_steered_pieces_do_not_depend_on_their_company() -> None:
    config = SamplingConfig(candidates=3, steering=3)
    requests = [asked(seed, 6.0 + seed) for seed in range(3)]
    together = sample(model(), requests, config, scorer=high_notes)
    assert sample(model(), [requests[1]], config, scorer=high_notes)[0] == together[1]
    long = [asked(seed, 30.0) for seed in range(2)]
    both = sample(model(64), long, config, scorer=high_notes)  # the context overflows between the parts
    assert sample(model(64), long[1:], config, scorer=high_notes)[0] == both[1]


def test_the_nearer_candidates_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    group = roll_out(model(), [asked(0, 5.0)], SamplingConfig(candidates=4, steering=1))
    monkeypatch.setattr("huesong.model.sampling.distances", lambda *_: np.array([5.0, 0.1, 5.0, 0.1]))
    chosen = resample(model(), group, None, 1)
    assert [job.ids for job in chosen] == [group[1].ids, group[1].ids, group[3].ids, group[3].ids]
    assert chosen[0].ids is not chosen[1].ids
    assert chosen[0].state is not chosen[1].state
    draws = [job.generator.uniform() for job in chosen]
    assert len(set(draws)) == 4
