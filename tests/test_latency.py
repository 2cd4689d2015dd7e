"""Latencies: what may be written, the laws' quantiles, and draws that depend on the link alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topology
from peer.config import Experiment
from peer.errors import UserError
from peer.latency import (
    LONGEST,
    Constant,
    Law,
    LogNormal,
    Uniform,
    expected_latencies,
    parse_latency,
)
from peer.link_latencies import link_latencies, read_latencies
from peer.seeds import Domain, random_words

RING = topology.build("ring", 5)
LAWS = [Constant(0.05), Uniform(0.02, 0.08), LogNormal(0.05, 0.5)]
laws = st.sampled_from(LAWS)
seconds = st.floats(0, LONGEST, allow_subnormal=False)


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("0.01", Constant(0.01)),
        ("0", Constant(0)),
        ("5", Constant(5)),
        (".5", Constant(0.5)),
        ("2e-3", Constant(0.002)),
        ("uniform:0.02-0.08", Uniform(0.02, 0.08)),
        ("uniform:1e-3-5e-3", Uniform(0.001, 0.005)),
        ("uniform:0-0", Uniform(0, 0)),
        ("lognormal:0.05:0.5", LogNormal(0.05, 0.5)),
        ("lognormal:1:0", LogNormal(1, 0)),
        ("distances.csv", None),
        ("a/b/UNIFORM:.CSV", None),
    ],
)
def test_a_text_stands_for_a_law(text: str, law: Law | None) -> None:
    assert parse_latency(text) == law


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "-0.01",
        "nan",
        "inf",
        "1e999",
        "1e7",
        "1_0",
        "٣",
        "0.01 ",
        "0.01\n",
        "0.01s",
        "uniform",
        "uniform:0.02",
        "uniform:0.08-0.02",
        "uniform:-1-2",
        "uniform:0.02-1e7",
        "lognormal:0.05",
        "lognormal:0:0.5",
        "lognormal:0.05:-1",
        "lognormal:0.05:3.5",
        "Uniform:0.02-0.08",
        "links.txt",
    ],
)
def test_other_texts_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as refusal:
        Experiment(latency=text)
    assert str(refusal.value) == (
        f"latency = {text!r} is not allowed: must be a number of seconds, uniform:LOW-HIGH, "
        "lognormal:MEDIAN:SIGMA, or a .csv file"
    )


@given(seconds, seconds)
def test_any_numbers_can_be_written(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    assert parse_latency(repr(low)) == Constant(low)
    assert parse_latency(f"uniform:{low!r}-{high!r}") == Uniform(low, high)


@given(st.lists(st.floats(2**-33, 1 - 2**-33), min_size=1, max_size=9))
def test_quantiles_are_those_of_the_laws(shares: list[float]) -> None:
    """Putting a quantile into the distribution function gives its share back."""
    array = np.array(shares)
    assert Constant(0.05).quantiles(array).tolist() == [0.05] * len(shares)
    uniform = (Uniform(0.02, 0.08).quantiles(array) - 0.02) / 0.06
    assert uniform == pytest.approx(array, abs=1e-12)
    for share, drawn in zip(shares, LogNormal(0.05, 0.5).quantiles(array).tolist(), strict=True):
        z = math.log(drawn / 0.05) / 0.5
        # Either tail by itself, so that shares near 1 keep their digits.
        assert math.erfc(-z / math.sqrt(2)) / 2 == pytest.approx(share, rel=1e-6)
        assert math.erfc(z / math.sqrt(2)) / 2 == pytest.approx(1 - share, rel=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_means_are_those_of_the_quantiles(law: Law) -> None:
    shares = (np.arange(200_000) + 0.5) / 200_000
    assert law.quantiles(shares).mean() == pytest.approx(law.mean, rel=1e-4)


@settings(deadline=None)
@given(laws, st.integers(0, 2**63), st.integers(2, 2**18 - 1), st.integers(0, 2**18 - 2))
def test_a_link_s_latency_is_the_definition_s_and_that_of_no_other(
    law: Law, seed: int, j: int, i: int
) -> None:
    i = min(i, j - 1)
    word = int(random_words(seed, Domain.LATENCIES, i, j, 1)[0])
    share = (2 * (word >> 11) + 1) / 2**54
    alone = expected_latencies(law, False, seed, [(i, j)])
    assert alone == dict.fromkeys([(i, j), (j, i)], law.quantiles(np.array([share])).item())
    among = expected_latencies(law, False, seed, [(0, 1), (i, j), (7, 9)])
    assert among[i, j] == among[j, i] == alone[i, j]


@pytest.mark.parametrize("law", LAWS[1:])
def test_links_are_spread_as_the_law_says(law: Law) -> None:
    edges = topology.build("random-regular", 4000).edges
    everything = expected_latencies(law, False, 3, edges)
    drawn = np.array([everything[edge] for edge in edges])
    bounds = law.quantiles(np.arange(1, 10) / 10)
    below = np.searchsorted(np.sort(drawn), bounds) / len(drawn)
    # Five standard deviations of a share of 8,000 links.
    assert np.abs(below - np.arange(1, 10) / 10).max() < 5 * 0.5 / math.sqrt(len(drawn))
    assert expected_latencies(law, False, 4, edges[:9]) != {
        link: everything[link] for edge in edges[:9] for link in (edge, edge[::-1])
    }


@pytest.mark.parametrize("law", LAWS)
def test_where_each_frame_draws_all_links_are_expected_to_be_alike(law: Law) -> None:
    expected = expected_latencies(law, True, 0, RING.edges)
    assert set(expected) == {link for i, j in RING.edges for link in ((i, j), (j, i))}
    assert set(expected.values()) == {law.mean}


def test_no_links_have_no_latencies() -> None:
    assert expected_latencies(Uniform(0, 1), False, 0, []) == {}


def test_an_experiment_s_latencies() -> None:
    assert set(link_latencies(Experiment(), RING).values()) == {0.01}
    per_link = Experiment(latency="uniform:0.02-0.08", seed=5)
    assert link_latencies(per_link, RING) == expected_latencies(
        Uniform(0.02, 0.08), False, 5, RING.edges
    )
    per_frame = Experiment(latency="uniform:0.02-0.08", latency_per="frame")
    assert set(link_latencies(per_frame, RING).values()) == {0.05}


@pytest.mark.parametrize("header", ["", "a,b,seconds\n", "\ufeffa,b,seconds\r\n"])
def test_a_file_says_it_for_each_link(header: str, tmp_path: Path) -> None:
    path = tmp_path / "links.csv"
    path.write_text(
        header + "0,1,0.1\n2, 1 ,0.2\n2,3,0.3\n3,2,0.31\n\n4,3,0\n0,4,5e-1\n0,2,9\nx,0,9\n",
        encoding="utf-8",
    )
    both = {(0, 1): 0.1, (1, 2): 0.2, (3, 4): 0.0, (0, 4): 0.5}
    expected = both | {(j, i): value for (i, j), value in both.items()}
    expected |= {(2, 3): 0.3, (3, 2): 0.31}
    assert link_latencies(Experiment(latency=str(path)), RING) == expected


def test_a_file_names_peers_as_the_topology_does(tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text('"Bern, CH",Oslo,0.02\n')
    graph = topology.Topology("two", ((0, 1),), ("Oslo", "Bern, CH"))
    assert read_latencies(tmp_path / "links.csv", graph) == {(0, 1): 0.02, (1, 0): 0.02}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0,1,0.1\n", "{} has no line for the link of 0 and 4"),
        ("0,1,0.1\n0,1,0.1\n", "line 2 of {} repeats the link of 0 and 1"),
        ("0,1\n", "line 1 of {} is not a,b,seconds with seconds from 0 to 1e+06: '0,1'"),
        ("0,1,-1\n", "line 1 of {} is not a,b,seconds with seconds from 0 to 1e+06: '0,1,-1'"),
        ("0,1,nan\n", "line 1 of {} is not a,b,seconds with seconds from 0 to 1e+06: '0,1,nan'"),
        ("0,1,1\na,b,seconds\n", "line 2 of {} is not a,b,seconds with"),
        ("0,1,1e7\n", "line 1 of {} is not a,b,seconds with"),
        ("\udcff", "{} is no CSV file: "),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_one_line(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "links.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as refusal:
        read_latencies(path, RING)
    told = str(refusal.value)
    assert told.startswith("latency: " + line.format(path))
    assert len(told.splitlines()) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^latency: .*none\.csv cannot be read: No such file"):
        read_latencies(tmp_path / "none.csv", RING)
