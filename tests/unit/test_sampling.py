from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from huesong.config import EvaluationSampling, SamplingConfig
from huesong.model.requests import Request
from huesong.model.sampling import draw, last_bars, predict_va, resample, roll_out, sample
from huesong.music import tokens
from huesong.music.grammar import Constraints, Grammar, State
from huesong.music.reading import parse_score
from huesong.runtime.errors import UserError
from tests.examples import examples
from tests.tiny_music import grammar, model, pieces, tokenizer, walk

PICTURE = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float16)
PLAIN = EvaluationSampling(guidance=1.5)


def asked(seed: int, seconds: float = 6.0, **changes: object) -> Request:
    length = {} if "bars" in changes else {"seconds": seconds}
    values: dict[str, object] = {"picture": PICTURE, "valence": None, "arousal": 0.5, "seed": seed, **length}
    return Request(**(values | changes))  # type: ignore[arg-type]


def length(ids: list[int]) -> float:
    return float(parse_score(bytes(tokens.decode(tokenizer(), ids).dumps_midi())).to("second").end())


@examples(12)
@given(
    seed=st.integers(0, 2**40), seconds=st.floats(4, 30), temperature=st.sampled_from([0.3, 0.9, 2.0]),
    top_p=st.sampled_from([0.5, 0.95, 1.0]), guidance=st.sampled_from([0.0, 1.0, 1.5, 4.0]),
)  # fmt: skip
def test_random_weights_still_compose_valid_pieces(
    seed: int, seconds: float, temperature: float, top_p: float, guidance: float
) -> None:
    config = EvaluationSampling(temperature=temperature, top_p=top_p, guidance=guidance)
    made = sample(model(), [asked(seed, seconds), asked(seed + 1, seconds / 2 + 2)], config)
    for piece, wanted in zip(made, (seconds, seconds / 2 + 2), strict=True):
        assert grammar().count_violations(piece.ids) == 0
        assert length(piece.ids) == pytest.approx(wanted, rel=0.05)


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
    encoding = model().network.encode_picture(torch.from_numpy(PICTURE)[None])
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
    greedy = EvaluationSampling(temperature=1.0, top_p=1e-9, guidance=guidance)
    requests = [asked(3, 4.0), asked(4, 7.0)]
    network, rules = model().network, grammar()
    for request, made in zip(requests, sample(model(), requests, greedy), strict=True):
        picture = network.encode_picture(torch.from_numpy(PICTURE)[None])
        va = torch.tensor([[float(picture.request_B2[0, 0]), 0.5]])
        state, ids, written = rules.start(Constraints(seconds=request.seconds)), [rules.vocabulary.bos], list[int]()
        while not state.done:
            prefix = torch.tensor([ids])
            with_it = network(prefix, picture.tokens_BSD, va, torch.tensor([True]))[0, -1].double()
            without = network(prefix, picture.tokens_BSD, va, torch.tensor([False]))[0, -1].double()
            logits = without + guidance * (with_it - without)
            logits = torch.round(logits * 1000).masked_fill(~torch.from_numpy(rules.mask(state)), -torch.inf)
            ids.append(int(logits.argmax()))
            written += rules.advance(state, ids[-1])
        assert written == made.ids


def test_a_model_that_always_had_its_condition_is_not_guided() -> None:
    def made(dropout: float, guidance: float) -> list[int]:
        player = replace(model(), config={"training": {"config": {"condition_dropout": dropout}}})
        return sample(player, [asked(0)], EvaluationSampling(guidance=guidance))[0].ids

    assert made(0.0, 3.0) == made(0.0, 1.0) == made(0.15, 1.0)
    # The settings hold for any other model, and for one that is asked to leave its condition out.
    assert made(0.15, 3.0) == sample(model(), [asked(0)], EvaluationSampling(guidance=3.0))[0].ids != made(0.15, 1.0)
    assert made(0.0, 0.0) == made(0.15, 0.0) != made(0.0, 1.0)


def test_best_of_n_is_the_nearest_to_the_request() -> None:
    request = asked(5, valence=0.9, arousal=-0.9)
    best = sample(model(), [request], SamplingConfig(guidance=1.5, candidates=6, steering=1))[0]
    few = sample(model(), [request], SamplingConfig(guidance=1.5, candidates=2, steering=1))[0]
    single = sample(model(), [request], PLAIN)[0]

    def error(piece: object) -> float:
        return float(np.hypot(*np.subtract(piece.critic, piece.requested)))  # type: ignore[attr-defined]

    assert error(best) <= error(few) <= error(single)
    assert error(best) < error(single)
    assert best.critic == predict_va(model(), best.ids)


@pytest.mark.parametrize("context", [32, 64])
def test_pieces_longer_than_the_context(context: int) -> None:
    made = sample(model(context), [asked(seed, 30.0) for seed in range(4)], PLAIN)
    assert max(len(piece.ids) for piece in made) > 2 * context
    for piece in made:
        assert grammar().count_violations(piece.ids) == 0
        assert length(piece.ids) == pytest.approx(30, rel=0.05)
    assert sample(model(context), [asked(2, 30.0)], PLAIN)[0] == made[2]


def test_last_bars_begin_at_a_bar_and_name_the_tempo() -> None:
    rules = grammar()
    for seed, score in enumerate(pieces()):
        ids = tokens.encode(tokenizer(), score) if seed % 2 else walk(rules, Constraints(seconds=60), seed, "Tempo")[0]
        state, bars = rules.start(Constraints()), []
        for index, token in enumerate(ids):
            if rules.table.bar[token]:
                bars.append((index, state.tempo))
            rules.advance(state, token)
        kept = last_bars(rules, ids, bars, 60)
        base = [part for token in kept for part in rules.table.base[token]]
        assert base[0] == ("Bar", 0)
        assert base[1] == ("Position", 0)
        assert base[2][0] == "Tempo"
        assert rules.count_violations(kept) == 0
        whole = [part for token in ids for part in rules.table.base[token]]
        assert [tempo for kind, tempo in whole if kind == "Tempo"][-1] == [v for kind, v in base if kind == "Tempo"][-1]
        notes = [part for part in base if part[0] in ("Pitch", "Duration")]
        assert notes == [part for part in whole if part[0] in ("Pitch", "Duration")][-len(notes) :]
        assert len(kept) <= 60 + 12
    assert last_bars(rules, list(range(100)), [(0, 1)], 20) == list(range(80, 100))


def test_a_length_in_bars() -> None:
    made = sample(model(), [asked(0, bars=3)], PLAIN)[0]
    assert tokens.decode(tokenizer(), made.ids).end() == 3 * 4 * 480


def test_a_tempo_and_a_key() -> None:
    made = sample(model(), [asked(0, 12.0, tempo=77.0, key=(2, False))], PLAIN)[0]
    score = parse_score(bytes(tokens.decode(tokenizer(), made.ids).dumps_midi()))
    tempos = grammar().table.tempos
    assert [float(tempo.qpm) for tempo in score.tempos] == pytest.approx(
        [tempos[np.abs(tempos - 77).argmin()]], abs=0.01
    )
    assert {note.pitch % 12 for note in score.tracks[0].notes} <= {2, 4, 5, 7, 9, 10, 0, 1}  # D minor
    assert length(made.ids) == pytest.approx(12, rel=0.05)


def test_an_asked_key_is_more_than_its_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    def tonic_share() -> float:
        made = sample(model(), [asked(seed, 12.0, key=(2, False)) for seed in range(48)], PLAIN)
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
        ({"tempo": 5000.0}, "--tempo 5000: give quarters a minute"),
        ({"tempo": 45.0, "seconds": 4.0}, "--tempo 45: a piece of 4 s cannot be written"),
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


# --- drawing -------------------------------------------------------------------------------------


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, 5.0], dtype=torch.float64)
    allowed = torch.tensor([True, True, True, False])
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    drawn = draw(
        logits.expand(20_000, -1), allowed.expand(20_000, -1), uniform, EvaluationSampling(temperature=0.5, top_p=1.0)
    )
    wanted = torch.softmax(logits[:3] / 0.5, dim=0)
    assert torch.bincount(drawn, minlength=4)[:3] / 20_000 == pytest.approx(wanted.tolist(), abs=1e-3)
    assert not (drawn == 3).any()


def test_the_nucleus() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    uniform = torch.linspace(0, 0.999999, 500, dtype=torch.float64)
    logits, allowed = probabilities.log().expand(500, -1), torch.ones(500, 4, dtype=torch.bool)
    for top_p, kept in ((0.4, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        assert set(draw(logits, allowed, uniform, EvaluationSampling(temperature=1.0, top_p=top_p)).tolist()) == kept


@examples(60)
@given(
    seed=st.integers(0, 2**31),
    uniform=st.sampled_from([0.0, 0.5, 1 - 2**-53]),
    scale=st.sampled_from([0.0, 1.0, 300.0]),
)
def test_nothing_forbidden_is_drawn(seed: int, uniform: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(3, 40)) * scale)
    allowed = torch.from_numpy(rng.random((3, 40)) < 0.1)
    allowed[:, int(rng.integers(40))] = True
    drawn = draw(logits, allowed, torch.full((3,), uniform, dtype=torch.float64), EvaluationSampling(top_p=0.99))
    assert allowed.gather(1, drawn[:, None]).all()


def test_noise_in_the_last_bits_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(500, 60)).round(3))  # away from the edges of rounding
    allowed, uniform = torch.ones(500, 60, dtype=torch.bool), torch.from_numpy(rng.random(500))
    noisy = logits + torch.from_numpy(rng.normal(size=(500, 60))) * 1e-6
    assert torch.equal(draw(logits, allowed, uniform, PLAIN), draw(noisy, allowed, uniform, PLAIN))


def test_a_trajectory_of_one_value_is_that_value() -> None:
    plain = sample(model(), [asked(0, arousal=0.5)], PLAIN)[0]
    assert sample(model(), [asked(0, arousal=(0.5, 0.5))], PLAIN)[0].ids == plain.ids
    assert sample(model(), [asked(0, arousal=(0.5, -1.0))], PLAIN)[0].ids != plain.ids


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


def test_a_primer_is_continued_and_one_that_does_not_fit_is_refused() -> None:
    begin = tuple(sample(model(), [asked(1, 8.0)], PLAIN)[0].ids[:30])
    alone = sample(model(), [asked(2, 12.0, primer=begin)], PLAIN)[0]
    mixed = sample(model(), [asked(3, 6.0), asked(2, 12.0, primer=begin)], PLAIN)[1]
    assert tuple(alone.ids[:30]) == begin
    assert mixed == alone
    assert length(alone.ids) == pytest.approx(12, rel=0.05)
    with pytest.raises(UserError, match="the model attends to 32"):
        sample(model(32), [asked(0, 20.0, primer=begin + begin)], PLAIN)
    with pytest.raises(UserError, match="too long for a piece of 4 s"):
        sample(model(512), [asked(0, 4.0, primer=tuple(sample(model(), [asked(1, 20.0)], PLAIN)[0].ids[:200]))], PLAIN)
    with pytest.raises(UserError, match="vocabulary"):
        sample(model(), [asked(0, 8.0, primer=begin[5:])], PLAIN)


def test_caps_of_a_request() -> None:
    [hypothesis] = roll_out(model(), [asked(0, 5.0)], EvaluationSampling(max_silence=0.5))
    assert hypothesis.state.constraints.silence == 0.5
    thin = sample(model(), [asked(0, 20.0)], EvaluationSampling(max_polyphony=2, max_notes_per_second=4.0))[0]
    score = parse_score(bytes(tokens.decode(tokenizer(), thin.ids).dumps_midi())).to("second")
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
    requests = [Request(None, 1.0, 0.0, seed, 12.0) for seed in range(6)]
    reached = {}
    for parts in (1, 4):
        made = sample(model(), requests, SamplingConfig(guidance=1.0, candidates=6, steering=parts), scorer=high_notes)
        reached[parts] = high_notes([piece.ids for piece in made])[:, 0].mean()
        for piece in made:
            assert grammar().count_violations(piece.ids) == 0
            assert length(piece.ids) == pytest.approx(12, rel=0.05)
    assert reached[4] > reached[1] + 0.02


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
    draws = [float(torch.rand(1, generator=job.generator)) for job in chosen]
    assert len(set(draws)) == 4
