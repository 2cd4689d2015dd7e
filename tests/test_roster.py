"""Who takes part in a round, and with which weight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.roster import Roster
from peer.seeds import active_peers

rosters = st.builds(
    Roster,
    rows=st.lists(st.integers(1, 10**6), min_size=1, max_size=30).map(tuple),
    participation=st.floats(0.01, 1.0),
    root_seed=st.integers(0, 2**64 - 1),
)
step_sizes = st.floats(1.0, 2.0, exclude_max=True)


@given(rosters, st.integers(0, 2**24))
def test_who_is_active_is_drawn_from_the_root_seed(roster: Roster, round_: int) -> None:
    expected = active_peers(roster.root_seed, len(roster.rows), roster.participation, round_)
    assert roster.active(round_) == expected
    assert roster.active(round_) == expected


@given(rosters, st.integers(0, 100), step_sizes)
def test_a_weight_is_the_peer_s_share_of_the_rows(
    roster: Roster, round_: int, step_size: float
) -> None:
    active = roster.active(round_)
    total = sum(roster.rows[peer] for peer in active)
    weights = [roster.weight(peer, round_, step_size) for peer in active]
    for peer, weight in zip(active, weights, strict=True):
        exact = Fraction(roster.rows[peer], total) * Fraction(step_size)
        assert weight == float(np.float32(weight))
        assert abs(Fraction(weight) - exact) <= exact / 2**23
    assert sum(map(Fraction, weights)) <= 2 + Fraction(1, 2**22)
    assert abs(sum(map(Fraction, weights)) - Fraction(step_size)) < Fraction(step_size) / 2**23


@given(rosters, step_sizes)
def test_weights_are_in_the_order_of_the_rows(roster: Roster, step_size: float) -> None:
    pairs = sorted((roster.rows[p], roster.weight(p, 3, step_size)) for p in roster.active(3))
    weights = [weight for _, weight in pairs]
    assert weights == sorted(weights)


def test_rosters_are_told_apart() -> None:
    """What has been found out about one is not taken for another's."""
    many = [Roster((1,) * 40, 0.25, seed) for seed in range(50)]
    many += [Roster((1,) * 40, share, 0) for share in (0.5, 0.75)]
    for roster in (*many, *reversed(many)):
        expected = active_peers(roster.root_seed, 40, roster.participation, 1)
        assert roster.active(1) == expected


def test_golden_weights() -> None:
    roster = Roster((10, 20, 30, 40), 0.5, 3)
    assert [roster.active(round_) for round_ in range(3)] == [(1, 2), (0, 3), (1, 3)]
    weights = [roster.weight(peer, 0, 1.6384) for peer in roster.active(0)]
    assert [np.float32(weight).tobytes().hex() for weight in weights] == ["acc5273f", "82a87b3f"]


@pytest.mark.parametrize("step_size", [1.0, 1.5, 1.9999999])
def test_a_peer_alone_has_the_whole_weight(step_size: float) -> None:
    assert Roster((17,), 1.0, 0).weight(0, 5, step_size) == float(np.float32(step_size))
