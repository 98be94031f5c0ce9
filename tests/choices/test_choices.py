"""Tokens, seeds, permutations: what a schedule is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.choices.choices import KINDS, PROFILES, Choices, Point, permute
from simloop.choices.draws import coincidences, dense_walk, mixed_seed, random_walk
from simloop.choices.lateness import LATE
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import decode, encode
from simloop.errors import ConfigurationError, OtherTestError, TokenError

POINTS = st.builds(
    Point,
    who=st.text(max_size=20),
    kind=st.one_of(st.sampled_from(KINDS), st.text(min_size=1, max_size=10)),
    number=st.integers(1, 2**40),
)
SCHEDULES = st.builds(
    Schedule,
    profile=st.sampled_from(PROFILES),
    seed=st.integers(0, 2**64 - 1),
    deviations=st.dictionaries(POINTS, st.integers(1, 50), max_size=30),
    numbered=st.booleans(),
)


@given(SCHEDULES, st.text(max_size=30))
def test_a_token_gives_its_schedule_back(schedule: Schedule, test: str) -> None:
    token = encode(schedule, test)
    assert decode(token, test) == schedule
    assert token.isascii()
    assert not any(character.isspace() for character in token)


@given(SCHEDULES, st.data())
def test_a_damaged_token_is_refused(schedule: Schedule, data: st.DataObject) -> None:
    token = encode(schedule)
    at = data.draw(st.integers(0, len(token) - 1))
    head, tail = token[:at], token[at:]
    damaged = data.draw(st.sampled_from([head, head + "*" + tail[1:], head + "A" + tail]))
    if damaged == token:
        return
    with pytest.raises(TokenError) as caught:
        decode(damaged)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_token_or_a_one_line_error(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        decode("sl1:" + text)
    assert "\n" not in str(caught.value)


def test_only_what_needs_the_second_layout_has_it() -> None:
    assert encode(Schedule(seed=7)) == "sl1:AAAAAAcAALcm"
    token = encode(Schedule(seed=7, numbered=True))
    assert token == "sl2:AAAAAAcAAAHXUQ"
    with pytest.raises(TokenError, match="malformed"):
        decode(token.replace("sl2", "sl1"))


def test_a_newer_token_says_to_upgrade() -> None:
    with pytest.raises(TokenError, match="newer simloop"):
        decode("sl3:AAAA")


def test_a_token_of_another_test_is_refused() -> None:
    token = encode(Schedule(seed=3), "test_a.py::test_one")
    with pytest.raises(OtherTestError, match="was not made for"):
        decode(token, "test_a.py::test_two")


def test_a_small_schedule_makes_a_short_token() -> None:
    schedule = Schedule(seed=12345, deviations={Point("localhost:6379#1<", "net.deliver", 3): 2})
    assert len(encode(schedule, "test_a.py::test_one")) <= 60


def test_points_count_per_who_and_kind() -> None:
    choices = Choices()
    for who, kind in [("a", "cancel"), ("b", "cancel"), ("a", "cancel"), ("a", "net.deliver")]:
        choices.choose(who, kind, 2)
    assert [str(answer.point) for answer in choices.answers()] == [
        "cancel #1 of a",
        "cancel #1 of b",
        "cancel #2 of a",
        "net.deliver #1 of a",
    ]
    assert choices.deviations() == {}


@given(st.integers(1, 2**32))
def test_a_schedule_answers_like_the_run_it_was_taken_from(seed: int) -> None:
    walked = Choices(seed, random_walk(seed))
    asked = [(f"task {i % 3}", KINDS[i % 5], 2 + i % 7) for i in range(60)]
    for who, kind, n in asked:
        walked.choose(who, kind, n)
    again = Choices(seed, Schedule("cpython", seed, walked.deviations()).decider())
    for who, kind, n in asked:
        again.choose(who, kind, n)
    assert again.digest == walked.digest
    assert again.entropy.random() == walked.entropy.random()


def test_an_answer_beyond_what_the_point_offers_becomes_the_last_one() -> None:
    choices = Choices(0, Schedule(deviations={Point("a", "cancel", 1): 7}).decider())
    assert choices.choose("a", "cancel", 3) == 2


@given(st.lists(st.integers(), max_size=8), st.randoms())
def test_permute_reaches_orders_and_zero_keeps_them(items: list[int], random: object) -> None:
    numbered = list(enumerate(items))
    assert permute(numbered, lambda item, later: 0) == numbered
    assert sorted(permute(numbered, lambda item, later: len(later))) == sorted(numbered)
    assert permute(numbered, lambda item, later: len(later)) == numbered[::-1]


def test_nearby_seeds_mix_far_apart() -> None:
    assert len({mixed_seed(i, 1) >> 32 for i in range(1000)}) > 990


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7"])
def test_a_seed_that_is_none_is_refused(seed: object) -> None:
    import simloop

    async def main() -> None: ...

    with pytest.raises(ConfigurationError, match="seed must be"):
        simloop.run(main, seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [*LATE, "cancel", "net.partition", "poll.order"])
def test_walks_answer_within_the_range_of_every_point(kind: str) -> None:
    point = ("a>b:1#1>", kind, 1)
    for seed in range(200):
        meeting = coincidences(seed, [[point]] if kind in LATE else [], set())
        for walk in (random_walk(seed), dense_walk(seed), meeting):
            for n in (1, 2, 3, 30):
                assert walk(*point, n) in range(n)


@pytest.mark.parametrize("kind", ["cancel", "signal.sent", "host.crash", "net.partition", "net.reset"])
def test_what_ends_something_stays_rare_in_dense_walks(kind: str) -> None:
    answers = [dense_walk(seed)("a", kind, 1, 2) for seed in range(2000)]
    assert 0.01 < sum(answers) / len(answers) < 0.1
