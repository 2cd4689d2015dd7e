"""The closing words: every line of them for runs with and without a model, and for a bad one."""

import math
import re
import shlex
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.choices import DTYPES
from sim.closing import closing_words
from sim.words import byte_unit, bytes_in_words, seconds_in_words

WITH_MODEL = {
    "schema": 1,
    "engine": "sim",
    "method": "fedkseed-pro",
    "trainer": "zeroth-order",
    "peers": 16,
    "rounds": 8,
    "local_steps": 50,
    "topology": {"name": "torus", "nodes": 16, "edges": 32, "diameter": 4},
    "model": {"name": "builtin", "parameters": 260_032, "dtype": "float32"},
    "data": {"rows_per_peer": [40] * 16, "eval_rows": 200, "unusable_rows": 0},
    "eval_loss": {"initial": 4.2, "final": 3.8612, "per_round": [4.1, 3.8612]},
    "digests": {
        "accumulator": ["5b3bbaaec7243a809c7bc762c7098d94"] * 16,
        "model": ["0d6735baca44d75dbab825266be202fa"] * 16,
        "all_equal": True,
    },
    "rejected_messages": 0,
    "liars": [],
    "skipped_steps": 0,
    "missing_peers": [],
    "absent_peers": [],
    "timeouts_fired": 0,
    "faults": {"exit_signals": []},
    "bytes": {"wire_total": 366_976, "per_peer_round_mean": 5_734.0, "redundancy": 1.2857},
    "seconds": {"wall": 83.4},
    "folder": "runs/torus-16-fedkseed-pro-1",
}

SYNTHETIC = WITH_MODEL | {
    "method": "fedkseed",
    "trainer": "synthetic",
    "peers": 2,
    "rounds": 1,
    "local_steps": 1,
    "topology": {"name": "line", "nodes": 2, "edges": 1, "diameter": 1},
    "model": None,
    "data": None,
    "eval_loss": None,
    "digests": {"accumulator": ["a78c125c05c15e04eeb6b5114ef221a9"] * 2, "model": None},
    "bytes": {"wire_total": 512, "per_peer_round_mean": 512.0, "redundancy": None},
    "seconds": {"wall": 0.1281, "virtual": 16.0},
    "folder": "runs/line-2-fedkseed-1",
}

BAD = WITH_MODEL | {
    "engine": "launch",
    "peers": 1_200,
    "rounds": 4_000,
    "model": {"name": "org/name", "parameters": 1_300_000_000, "dtype": "bfloat16"},
    "data": {"unusable_rows": 1_234},
    "eval_loss": {"initial": 4.0, "final": 4.5, "per_round": [4.5]},
    "digests": {"accumulator": ["aa", "bb", "cc"] * 400, "model": ["dd", "ee"] * 600},
    "rejected_messages": 1,
    "liars": [{"peer": 3, "named_by": [1, 2], "reasons": ["sent a forged entry"]}],
    "skipped_steps": 12,
    "missing_peers": list(range(3, 1_003)),
    "absent_peers": [3],
    "timeouts_fired": 2,
    "bytes": {"wire_total": 1, "per_peer_round_mean": 10_400.0, "redundancy": 20.0},
    "seconds": {"wall": 7_439.0},
    "folder": "runs/a bad one",
}


def test_a_run_with_a_model():
    assert closing_words(WITH_MODEL) == (
        "run            fedkseed-pro, simulated in one process\n"
        "topology       torus: 16 peers, 32 links, diameter 4\n"
        "rounds         8, each of 50 local steps a peer\n"
        "model          builtin, 260,032 parameters in float32\n"
        "held-out loss  4.2000 before, 3.8612 after, in nats per token\n"
        "               8.1 % lower\n"
        "accumulators   equal at all 16 peers, digest 5b3bbaaec724\n"
        "models         equal at all 16 peers, digest 0d6735baca44\n"
        "traffic        5.73 kB per peer and round, sent plus received\n"
        "               sending the weights, up and down, would take 2.08 MB,\n"
        "               363 times as much\n"
        "redundancy     1.29 times the payload of every entry to every peer once\n"
        "time           1 min 23 s\n"
        "run folder     runs/torus-16-fedkseed-pro-1\n"
        "pictures       runs/torus-16-fedkseed-pro-1/plots\n"
        "to export      kseed export runs/torus-16-fedkseed-pro-1 --to DIR"
    )


def test_answers_are_told_where_a_model_was_asked():
    before = closing_words(WITH_MODEL | {"rouge_l": None}).splitlines()
    assert before == closing_words(WITH_MODEL).splitlines()
    measured = {"initial": 0.0512, "final": 0.12345, "per_round": {"8": 0.12345}}
    after = closing_words(WITH_MODEL | {"rouge_l": measured}).splitlines()
    assert [line for line in after if line not in before] == [
        "Rouge-L        5.12 % before, 12.35 % after",
        "answers        some of them in runs/torus-16-fedkseed-pro-1/samples.jsonl",
    ]
    resumed = closing_words(WITH_MODEL | {"rouge_l": measured | {"initial": None}})
    assert "Rouge-L        unknown before, 12.35 % after" in resumed


def test_a_run_on_a_cluster():
    words = closing_words(WITH_MODEL | {"cluster": {"workers": 2, "nodes": 1, "lost": 3}})
    assert words.startswith("run            fedkseed-pro, simulated on a cluster\n")
    assert "cluster        2 workers on 1 node, lost and begun anew 3 times\n" in words


def test_a_run_without_a_model():
    assert closing_words(SYNTHETIC) == (
        "run            fedkseed, simulated in one process\n"
        "topology       line: 2 peers, 1 link, diameter 1\n"
        "rounds         1, each of 1 local step a peer\n"
        "held-out loss  none: the synthetic trainer has no model\n"
        "accumulators   equal at all 2 peers, digest a78c125c05c1\n"
        "traffic        512 B per peer and round, sent plus received\n"
        "time           0.13 s\n"
        "run folder     runs/line-2-fedkseed-1\n"
        "pictures       runs/line-2-fedkseed-1/plots"
    )


AVERAGED = WITH_MODEL | {
    "method": "fedit",
    "aggregation": "gossip",
    "local_epochs": 1,
    "model": WITH_MODEL["model"] | {"trained": 5_376},
    "digests": {
        "accumulator": [f"{peer:032x}" for peer in range(16)],
        "model": [f"{peer:032x}" for peer in range(16)],
        "all_equal": False,
    },
    "consensus": {"distance": 0.1864, "relative": 0.25, "per_round": [0.2, 0.1864]},
}


def test_a_run_that_averages_among_neighbours():
    assert closing_words(AVERAGED) == (
        "run            fedit, simulated in one process\n"
        "topology       torus: 16 peers, 32 links, diameter 4\n"
        "rounds         8, each 1 time through a peer's own rows\n"
        "model          builtin, 260,032 parameters in float32\n"
        "trained        LoRA factors, 5,376 numbers in float32\n"
        "held-out loss  4.2000 before, 3.8612 after, in nats per token\n"
        "               8.1 % lower\n"
        "               of the mean of the peers' weights, each by its number of rows\n"
        "apart          the peers' weights are 0.186 from their mean (root mean square)\n"
        "               while the mean has come 4 times as far\n"
        "traffic        5.73 kB per peer and round, sent plus received\n"
        "redundancy     1.29 times the payload of all weights that were asked for, once\n"
        "time           1 min 23 s\n"
        "run folder     runs/torus-16-fedkseed-pro-1\n"
        "pictures       runs/torus-16-fedkseed-pro-1/plots\n"
        "to export      kseed export runs/torus-16-fedkseed-pro-1 --to DIR"
    )


@pytest.mark.parametrize(
    ("distance", "relative", "said"),
    [(0.0, None, "the mean is where it was"), (0.0, math.nan, "where it was"), (0.0, 0.0, None)],
)
def test_a_mean_that_has_not_moved_is_compared_with_nothing(distance, relative, said):
    consensus = {"distance": distance, "relative": relative, "per_round": [distance]}
    words = closing_words(AVERAGED | {"consensus": consensus})
    assert "times as far" not in words
    assert said is None or said in words


def test_with_a_server_weights_are_equal_or_something_is_wrong():
    server = AVERAGED | {"aggregation": "server", "digests": WITH_MODEL["digests"]}
    lines = closing_words(server).splitlines()
    assert "weights        equal at all 16 peers, digest 5b3bbaaec724" in lines
    assert not any(line.startswith(("apart", "models", "accumulators")) for line in lines)
    bad = closing_words(server | {"digests": AVERAGED["digests"]})
    assert "weights        NOT EQUAL: 16 different digests at 16 peers" in bad


def test_seeds_without_end_make_rebuilds_longer_and_longer():
    grown = {"perturbations": [400, 800, 3_200], "seconds": [0.1, 0.2, 0.8]}
    endless = {"method": "fedkseed-infinite", "candidate_seeds": 1_024, "rebuild": grown}
    words = closing_words(WITH_MODEL | endless)
    assert (
        "rebuild        400 perturbations after round 1, 3,200 perturbations after 3\n"
        "               0.10 s after round 1, 0.80 s after 3\n"
        "               a pool of 1,024 seeds would end its growth there\n"
    ) in words
    unknown = endless | {"rebuild": {"perturbations": [None, 800], "seconds": [None, None]}}
    assert "after round 1" not in closing_words(WITH_MODEL | unknown)
    assert "rebuild" not in closing_words(WITH_MODEL | endless | {"method": "fedkseed"})


def test_a_run_that_went_wrong():
    assert closing_words(BAD) == (
        "run            fedkseed-pro, one process a peer\n"
        "topology       torus: 1,200 peers, 32 links, diameter 4\n"
        "rounds         4,000, each of 50 local steps a peer\n"
        "model          org/name, 1,300,000,000 parameters in bfloat16\n"
        "held-out loss  4.0000 before, 4.5000 after, in nats per token\n"
        "               12.5 % higher\n"
        "accumulators   NOT EQUAL: 3 different digests at 1,200 peers\n"
        "models         NOT EQUAL: 2 different digests at 1,200 peers\n"
        "missing peers  3, 4, 5, 6, 7, 8, 9, 10 and 992 more: no end of their logs came\n"
        "absent peers   3: not there at the end\n"
        "time-outs      2 times a peer closed a round without somebody's entry\n"
        "skipped steps  12, whose loss was not finite\n"
        "rejected       1 message that broke the protocol\n"
        "liar           peer 3, named by 1, 2: sent a forged entry\n"
        "unusable rows  1,234, with no response or too long for max_length\n"
        "traffic        10.4 kB per peer and round, sent plus received\n"
        "               sending the weights, up and down, would take 5.20 GB,\n"
        "               500,000 times as much\n"
        "redundancy     20.00 times the payload of every entry to every peer once\n"
        "time           2 h 04 min\n"
        "run folder     runs/a bad one\n"
        "pictures       runs/a bad one/plots\n"
        "to export      kseed export 'runs/a bad one' --to DIR"
    )


@pytest.mark.parametrize("lost", [None, math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_said_to_be_so(lost):
    diverged = WITH_MODEL | {"eval_loss": {"initial": 4.2, "final": lost, "per_round": [lost]}}
    assert "4.2000 before, not finite after" in closing_words(diverged)
    hopeless = WITH_MODEL | {"eval_loss": {"initial": lost, "final": lost, "per_round": [lost]}}
    assert "not finite before, not finite after" in closing_words(hopeless)
    assert "%" not in closing_words(diverged) + closing_words(hopeless)


def test_a_weight_of_every_type_has_a_size():
    for dtype, size in zip(DTYPES, (4, 2, 2), strict=True):
        model = {"name": "builtin", "parameters": 500_000, "dtype": dtype}
        weights = bytes_in_words(2 * 500_000 * size)
        assert f"up and down, would take {weights}," in closing_words(WITH_MODEL | {"model": model})


@pytest.mark.parametrize(
    ("mean", "said"), [(2_080_256.0, "1 times"), (20_802_560.0, "0.1 times"), (1e5, "21 times")]
)
def test_weights_are_compared_whether_they_cost_more_or_less(mean, said):
    cost = WITH_MODEL["bytes"] | {"per_peer_round_mean": mean}
    assert f"  {said} as much\n" in closing_words(WITH_MODEL | {"bytes": cost})


def test_nothing_sent_is_compared_with_nothing():
    cost = {"wire_total": 0, "per_peer_round_mean": 0.0, "redundancy": None}
    words = closing_words(WITH_MODEL | {"bytes": cost})
    assert "traffic        0 B per peer and round" in words
    assert "as much" not in words


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("timeouts_fired", "time-outs"),
        ("skipped_steps", "skipped steps"),
        ("rejected_messages", "rejected"),
    ],
)
def test_each_trouble_is_told_by_itself_and_only_if_there_was_any(key, label):
    assert f"\n{label} " not in closing_words(WITH_MODEL)
    words = closing_words(WITH_MODEL | {key: 7})
    (line,) = (line for line in words.splitlines() if line.startswith(label))
    assert re.search(r"\b7\b", line)
    assert len(words.splitlines()) == len(closing_words(WITH_MODEL).splitlines()) + 1


def test_time_outs_are_of_peers_and_not_of_rounds():
    words = closing_words(WITH_MODEL | {"rounds": 1, "timeouts_fired": 11})
    assert "time-outs      11 times a peer closed a round without somebody's entry\n" in words
    once = closing_words(WITH_MODEL | {"timeouts_fired": 1})
    assert "1 time a peer closed a round" in once


def test_the_summary_is_left_as_it_was_and_lines_are_short():
    for summary in (WITH_MODEL, SYNTHETIC, BAD, AVERAGED):
        before = deepcopy(summary)
        lines = closing_words(summary).splitlines()
        assert summary == before
        assert max(map(len, lines)) <= 80


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_the_command_to_export_can_be_pasted(folder):
    last = closing_words(WITH_MODEL | {"folder": folder}).split("to export", 1)[1]
    assert shlex.split(last.rsplit("\n", 1)[-1])[-4:] == ["export", folder, "--to", "DIR"]


@given(st.floats(0, 9e17))
def test_bytes_keep_three_digits_and_are_never_as_many_as_a_thousand_of_a_unit(number):
    text, unit = bytes_in_words(number).split()
    name, size = byte_unit(number)
    assert unit == name
    value = float(text)
    assert value < 1000
    assert len(text.replace(".", "")) <= 3
    assert abs(value * size - number) <= max(0.5, 0.00501 * number)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.5, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_995, "10.0 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (5.2e9, "5.20 GB"),
    ],
)
def test_bytes_where_their_form_changes(number, said):
    assert bytes_in_words(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.00 s"),
        (9.994, "9.99 s"),
        (9.995, "10.0 s"),
        (59.94, "59.9 s"),
        (59.95, "1 min 00 s"),
        (3_599.4, "59 min 59 s"),
        (3_599.5, "1 h 00 min"),
        (90_000.0, "25 h 00 min"),
    ],
)
def test_seconds_where_their_form_changes(seconds, said):
    assert seconds_in_words(seconds) == said
