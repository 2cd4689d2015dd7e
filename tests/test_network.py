"""Simulated links: order, queues, shares of faults, cuts; and the clock that delivers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
import topology
from peer.config import Experiment
from peer.latency import Constant, LogNormal, Uniform
from peer.seeds import Domain, random_words
from peer.traffic import Traffic
from sim.link_model import BATCH, DOUBLED, HELD_BACK, LOST, LinkModel, link_model
from sim.network import FrameCounts, Network
from sim.schedule import Schedule

JITTER = LinkModel(Uniform(0.02, 0.08), per_frame=True, seed=1)
ALL_FAULTS = dataclasses.replace(
    JITTER, bandwidth=1e4, loss=0.1, duplication=0.2, reordering=0.3, seed=7
)
models = st.builds(
    LinkModel,
    law=st.sampled_from([Constant(0.05), Uniform(0.02, 0.08), LogNormal(0.05, 0.5)]),
    per_frame=st.booleans(),
    bandwidth=st.sampled_from([0.0, 1e3, 1e6]),
    loss=st.sampled_from([0.0, 0.2, 0.9]),
    duplication=st.sampled_from([0.0, 0.2, 1.0]),
    reordering=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)
# Seconds after the one before, sender, receiver, bytes.
sends = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.03, 1.0]),
        st.integers(0, 2),
        st.integers(3, 4),
        st.sampled_from([1, 100, 255, 256, 1000]),
    ),
    max_size=60,
)
Send = tuple[float, int, int, int]
Arrival = tuple[float, int, int, bytes]


class Watched:
    """A network that keeps what arrives; frame n of a run starts with n as four bytes."""

    def __init__(self, model: LinkModel | None = None) -> None:
        self.schedule = Schedule()
        self.arrived: list[Arrival] = []
        self.traffic = Traffic()
        self.network = Network(self.schedule, self._keep, self.traffic, model)

    def _keep(self, sender: int, receiver: int, frame: bytes) -> None:
        self.arrived.append((self.schedule.now, sender, receiver, frame))

    def run(self, sends: Sequence[Send]) -> Watched:
        time = 0.0
        for number, (wait, sender, receiver, size) in enumerate(sends):
            time += wait
            frame = number.to_bytes(4, "big").rjust(max(size, 4), b"\0")
            self.schedule.at(time, self.network.send, sender, receiver, frame)
        self.finish()
        return self

    def finish(self) -> None:
        self.schedule.run()

    def stream(self, count: int, wait: float, sender: int = 0, receiver: int = 1) -> Watched:
        """Send so many short frames over one link, so many seconds apart."""
        return self.run([(wait, sender, receiver, 4)] * count)

    def order(self, sender: int = 0, receiver: int = 1) -> list[int]:
        """The numbers of the frames that came over a link, in the order of their arrival."""
        return [
            int.from_bytes(frame[-4:], "big")
            for _, *ends, frame in self.arrived
            if ends == [sender, receiver]
        ]


def plausible(hits: int, of: int, share: float) -> bool:
    """Within five standard deviations of a binomial's mean."""
    return abs(hits - of * share) < 5 * math.sqrt(of * share * (1 - share))


# The clock


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-10, 10)), max_size=40))
def test_events_come_by_time_and_equal_times_in_the_order_of_their_making(
    plan: list[tuple[float, float]],
) -> None:
    """Each event makes another one, for a time that may be past; a sorted list is the reference."""
    schedule = Schedule()
    seen: list[tuple[float, int]] = []
    waiting: list[tuple[float, int]] = []
    expected: list[tuple[float, int]] = []

    def happen(number: int) -> None:
        seen.append((schedule.now, number))
        if number < len(plan):
            schedule.at(schedule.now + plan[number][1], happen, number + len(plan))

    for number, (time, _) in enumerate(plan):
        schedule.at(time, happen, number)
        waiting.append((time, number))
    made = len(plan)
    tickets = {number: number for number in range(len(plan))}
    while waiting:
        time, number = min(waiting, key=lambda event: (event[0], tickets[event[1]]))
        waiting.remove((time, number))
        expected.append((time, number))
        if number < len(plan):
            after = number + len(plan)
            tickets[after] = made = made + 1
            waiting.append((max(time, time + plan[number][1]), after))
    schedule.run()
    assert seen == expected


def test_a_clock_that_has_stopped_goes_on() -> None:
    schedule = Schedule()
    seen: list[float] = []
    schedule.run()
    for time in (2.0, 1.0, 2.0):
        schedule.at(time, lambda: seen.append(schedule.now))
        schedule.run()
    assert seen == [2.0, 2.0, 2.0]


# Order


@settings(deadline=None)
@given(models, sends)
def test_without_reordering_each_link_delivers_in_order(
    model: LinkModel, sends: list[Send]
) -> None:
    model = dataclasses.replace(model, reordering=0.0)
    watched = Watched(model).run(sends)
    for sender in range(3):
        for receiver in (3, 4):
            order = watched.order(sender, receiver)
            assert order == sorted(order)
            if not model.duplication:
                assert len(set(order)) == len(order)
    assert watched.network.counts().overtaken == 0


@pytest.mark.parametrize("law", [Uniform(0.02, 0.08), LogNormal(0.05, 0.5)])
def test_each_frame_draws_its_latency_and_waits_for_the_one_before(law: Any) -> None:
    """Far apart, frames take what they drew; close together, the running maximum of it."""
    model = LinkModel(law, per_frame=True, seed=4)
    far = np.array([time for time, *_ in Watched(model).stream(1000, 10.0).arrived])
    drawn = far - 10.0 * np.arange(1, 1001)
    for share in (0.1, 0.5, 0.9):
        bound = law.quantiles(np.array([share]))[0]
        assert plausible(int((drawn < bound).sum()), 1000, share)
    close = np.array([time for time, *_ in Watched(model).stream(1000, 1e-3).arrived])
    sent = 1e-3 * np.arange(1, 1001)
    assert close == pytest.approx(np.maximum.accumulate(sent + drawn), abs=1e-9)
    assert (np.diff(drawn) < 0).sum() > 300


def test_a_link_s_latency_is_the_one_expected_of_it() -> None:
    edges = topology.build("ring", 4).edges
    experiment = Experiment(latency="uniform:0.02-0.08", seed=3, peers=4)
    model = link_model(experiment, topology.build("ring", 4))
    watched = Watched(model).run([(0.0, *link, 9) for edge in edges for link in (edge, edge[::-1])])
    assert len({time for time, *_ in watched.arrived}) == 4
    for time, sender, receiver, _ in watched.arrived:
        assert time == model.expected_latency(sender, receiver)
        assert time == model.expected_latency(receiver, sender)
        assert 0.02 <= time <= 0.08


# Queues


@given(sends, st.sampled_from([1.0, 1e3, 12345.6]), st.sampled_from([0.0, 0.05]))
def test_a_frame_occupies_its_link_as_long_as_its_bytes_take(
    sends: list[Send], bandwidth: float, latency: float
) -> None:
    """Against a queue in exact numbers: framing counts, and links do not wait for each other."""
    watched = Watched(LinkModel(Constant(latency), bandwidth=bandwidth)).run(sends)
    free: dict[tuple[int, int], Fraction] = {}
    expected = {}
    time = 0.0
    for number, (wait, sender, receiver, size) in enumerate(sends):
        time += wait
        size = max(size, 4)
        wire = size + (2 if size <= 255 else 9)
        starts = max(Fraction(time), free.get((sender, receiver), Fraction(0)))
        free[sender, receiver] = starts + wire / Fraction(bandwidth)
        expected[number] = float(free[sender, receiver] + Fraction(latency))
    seen = {int.from_bytes(frame[-4:], "big"): at for at, _, _, frame in watched.arrived}
    assert seen.keys() == expected.keys()
    for number, at in expected.items():
        assert seen[number] == pytest.approx(at, rel=1e-12, abs=1e-12)
    assert [at for at, *_ in watched.arrived] == sorted(at for at, *_ in watched.arrived)


def test_lost_frames_and_duplicates_occupy_the_link_too() -> None:
    def last(**faults: float) -> tuple[float, FrameCounts]:
        watched = Watched(LinkModel(Constant(0), bandwidth=6.0, **faults)).stream(200, 0.0)
        return watched.arrived[-1][0], watched.network.counts()

    assert last() == (200, FrameCounts(delivered=200))
    assert last(duplication=1.0) == (400, FrameCounts(400, duplicated=200))
    time, counts = last(loss=0.5)
    assert counts.delivered < 150
    assert time > 180


# Faults


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_shares_of_faults_are_those_asked_for(share: float) -> None:
    count = 20_000
    lossy = Watched(LinkModel(loss=share)).stream(count, 1.0)
    lost = lossy.network.counts().lost
    assert plausible(lost, count, share)
    assert lossy.network.counts() == FrameCounts(count - lost, lost)
    assert len(lossy.arrived) == count - lost
    twice = Watched(LinkModel(duplication=share)).stream(count, 1.0)
    doubled = twice.network.counts().duplicated
    assert plausible(doubled, count, share)
    assert twice.network.counts() == FrameCounts(count + doubled, duplicated=doubled)
    assert len(twice.arrived) == count + doubled
    held = Watched(LinkModel(Constant(0.5), reordering=share)).stream(count, 1.0)
    late = np.array([time for time, *_ in held.arrived]) - 1.5 - np.arange(count)
    assert plausible(int((late > 1e-9).sum()), count, share)
    assert np.all((late > -1e-9) & (late < 0.5))
    # By anything up to the latency, all alike.
    extra = late[late > 1e-9]
    assert plausible(int((extra < 0.125).sum()), len(extra), 0.25)


def test_each_copy_may_be_lost_by_itself() -> None:
    watched = Watched(LinkModel(loss=0.3, duplication=1.0)).stream(20_000, 1.0)
    copies = np.bincount(watched.order(), minlength=20_000)
    for number, share in ((0, 0.09), (1, 0.42), (2, 0.49)):
        assert plausible(int((copies == number).sum()), 20_000, share)


@settings(deadline=None)
@given(models, sends)
def test_counts_are_those_of_what_arrives(model: LinkModel, sends: list[Send]) -> None:
    watched = Watched(model).run(sends)
    counts = watched.network.counts()
    assert counts.delivered == len(watched.arrived)
    assert counts.delivered + counts.lost == len(sends) + counts.duplicated
    # Exactly one copy of every frame is what the senders have paid for.
    total = watched.traffic.total()
    assert total.control_messages + total.payload_messages == len(sends)
    overtaken = 0
    for sender in range(3):
        for receiver in (3, 4):
            order = watched.order(sender, receiver)
            # The copies of a frame cannot be told apart here, so a frame after its own copy is not
            # counted, though one may have been held back.
            overtaken += sum(
                any(later > number for later in order[:place]) for place, number in enumerate(order)
            )
    if not model.duplication:
        assert counts.overtaken == overtaken
    else:
        assert counts.overtaken >= overtaken


def test_frames_that_are_held_back_are_overtaken() -> None:
    sparse = Watched(LinkModel(Constant(0.5), reordering=0.2)).stream(5000, 1.0)
    assert sparse.order() == list(range(5000))
    assert sparse.network.counts().overtaken == 0
    dense = Watched(LinkModel(Constant(0.5), reordering=0.2)).stream(5000, 1e-3)
    assert dense.order() != list(range(5000))
    assert sorted(dense.order()) == list(range(5000))
    assert 0.9 * 1000 < dense.network.counts().overtaken < 1.1 * 1000


# Draws


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**18 - 1), st.integers(0, 2**18 - 1), st.data())
@settings(deadline=None)
def test_a_frame_s_fate_is_the_definition_s(
    seed: int, sender: int, receiver: int, data: st.DataObject
) -> None:
    """Frame n of a link has block n of its own words: loss, duplication, reordering, latency."""
    model = dataclasses.replace(ALL_FAULTS, seed=seed)
    batch = data.draw(st.sampled_from([0, 1, 5000]))
    place = data.draw(st.integers(0, BATCH - 1))
    link = sender * 2**18 + receiver
    pair = random_words(seed, Domain.FRAMES, link, batch, 2 * BATCH)[2 * place : 2 * place + 2]
    words = [int(word) >> shift & 0xFFFFFFFF for word in pair for shift in (0, 32)]
    lost, doubled, held, placed = ((2 * word + 1) / 2**33 for word in words)
    marks = LOST * (lost < 0.1) + DOUBLED * (doubled < 0.2) + HELD_BACK * (held < 0.3)
    latency = 0.02 + 0.06 * placed
    fates = model.fates(sender, receiver, batch)
    assert fates.latencies is not None
    assert fates.extras is not None
    assert len(fates.marks) == len(fates.latencies) == len(fates.extras) == BATCH
    assert fates.marks[place] == marks
    assert fates.latencies[place] == pytest.approx(latency, rel=1e-14)
    extra = latency * held / 0.3 if held < 0.3 else 0
    assert fates.extras[place] == pytest.approx(extra, rel=1e-14)


@settings(deadline=None)
@given(models, sends)
def test_the_same_again_and_each_link_by_itself(model: LinkModel, sends: list[Send]) -> None:
    together = Watched(model).run(sends).arrived
    assert Watched(model).run(sends).arrived == together
    for link in {(sender, receiver) for _, sender, receiver, _ in sends}:
        # The others' frames stay in the plan at no time, so that times and numbers stay the same.
        alone = Watched(model)
        time = 0.0
        for number, (wait, sender, receiver, size) in enumerate(sends):
            time += wait
            if (sender, receiver) == link:
                frame = number.to_bytes(4, "big").rjust(max(size, 4), b"\0")
                alone.schedule.at(time, alone.network.send, *link, frame)
        alone.finish()
        assert alone.arrived == [row for row in together if (row[1], row[2]) == link]


def test_one_fault_does_not_shift_another_s_draws() -> None:
    def lost(**others: Any) -> set[int]:
        watched = Watched(LinkModel(loss=0.2, seed=9, **others)).stream(1000, 1.0)
        return set(range(1000)) - set(watched.order())

    alone = lost()
    assert 100 < len(alone) < 300
    assert lost(reordering=0.5) == alone
    assert lost(bandwidth=1e3) == alone
    assert lost(law=Uniform(0.01, 0.02), per_frame=True) == alone


def test_links_directions_and_seeds_draw_apart() -> None:
    def lost(seed: int, sender: int, receiver: int) -> tuple[int, ...]:
        watched = Watched(LinkModel(loss=0.5, seed=seed)).stream(500, 1.0, sender, receiver)
        return tuple(watched.order(sender, receiver))

    seen = [lost(0, 0, 1), lost(0, 1, 0), lost(0, 0, 2), lost(0, 2, 1), lost(1, 0, 1)]
    assert len(set(seen)) == len(seen)
    sets = [set(order) for order in seen]
    for one in range(len(sets)):
        for other in range(one):
            assert plausible(len(sets[one] & sets[other]), 500, 0.25)


# Cuts


def arrivals(watched: Watched, pairs: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """Send a frame over each of these links; return over which one came."""
    before = len(watched.arrived)
    for pair in pairs:
        watched.network.send(*pair, b"frame")
    watched.finish()
    return {(sender, receiver) for _, sender, receiver, _ in watched.arrived[before:]}


@settings(deadline=None)
@given(
    st.lists(st.frozensets(st.integers(0, 5)), max_size=3),
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda pair: pair[0] < pair[1])),
    st.booleans(),
)
def test_cuts_and_links_that_are_down(
    groups: list[frozenset[int]], down: set[tuple[int, int]], used_before: bool
) -> None:
    watched = Watched()
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    if used_before:
        assert arrivals(watched, pairs) == set(pairs)
    for a, b in sorted(down):
        watched.network.link_down(b, a)
    for group in groups:
        watched.network.cut(group)
    up = {(i, j) for i, j in pairs if (min(i, j), max(i, j)) not in down}
    joined = {(i, j) for i, j in up if all((i in group) == (j in group) for group in groups)}
    lost = watched.network.counts().lost
    assert arrivals(watched, pairs) == joined
    assert watched.network.counts().lost - lost == len(pairs) - len(joined)
    watched.network.mend()
    assert arrivals(watched, pairs) == up
    for a, b in sorted(down):
        watched.network.link_up(a, b)
    assert arrivals(watched, pairs) == set(pairs)


def test_what_is_on_its_way_when_a_cut_is_made_still_arrives() -> None:
    watched = Watched()
    watched.network.send(0, 1, b"before")
    watched.network.cut(frozenset({0}))
    watched.network.send(0, 1, b"between")
    watched.network.mend()
    watched.network.send(0, 1, b"after")
    watched.finish()
    assert [frame for *_, frame in watched.arrived] == [b"before", b"after"]


def test_a_cut_does_not_shift_a_link_s_draws() -> None:
    model = LinkModel(loss=0.5, seed=2)
    whole = Watched(model).stream(300, 1.0)
    cut = Watched(model)
    cut.network.cut(frozenset({1}))
    cut.stream(100, 1.0)
    cut.network.mend()
    cut.stream(300, 1.0)
    assert cut.order() == whole.order()


# Whole runs


def run(folder: Any, **changes: Any) -> tuple[dict[str, Any], bytes]:
    summary = sim.run(
        topology="torus", peers=9, rounds=2, trainer="synthetic", out=str(folder), **changes
    )
    return summary, (folder / "links.csv").read_bytes()


def test_a_run_over_bad_links_is_the_same_each_time_and_ends_whole(tmp_path: Any) -> None:
    bad = {"latency": "lognormal:0.05:0.5", "latency_per": "frame", "bandwidth": 1e5}
    bad |= {"loss": 0.05, "duplication": 0.05, "reordering": 0.2}
    one, bytes_one = run(tmp_path / "one", **bad)
    two, bytes_two = run(tmp_path / "two", **bad)
    assert one["digests"]["all_equal"]
    assert min(one["network"].values()) > 0
    assert bytes_one == bytes_two
    assert [one[key] for key in ("network", "digests", "bytes")] == [
        two[key] for key in ("network", "digests", "bytes")
    ]
    other, _ = run(tmp_path / "other", **bad, seed=1)
    assert other["network"] != one["network"]


def test_latencies_set_the_time_that_a_run_takes(tmp_path: Any) -> None:
    seconds = [
        run(tmp_path / text, latency=text)[0]["seconds"]["virtual"] for text in ("0.001", "0.5")
    ]
    assert seconds[1] > seconds[0] + 1
