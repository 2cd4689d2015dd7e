"""A peer's status as Prometheus reads it."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families
from runs import links
from scenarios.processes import end_of, flags, free_range, kseed
from statuses import get, neighbour, status, statuses

from peer.metrics import DIGEST_DIGITS, KINDS, exposition
from peer.metrics_ports import HOST
from peer.participant import Phase
from peer.status import PeerStatus

Labels = frozenset[tuple[str, str]]


def read(page: bytes) -> dict[tuple[str, Labels], float]:
    """Every sample by its name and its labels."""
    families = text_string_to_metric_families(page.decode())
    found = {}
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def sent(samples: dict[tuple[str, Labels], float], name: str) -> dict[Labels, float]:
    return {labels: value for (key, labels), value in samples.items() if key == name}


def labels(**values: Any) -> Labels:
    return frozenset((name, str(value)) for name, value in values.items())


@given(statuses())
def test_every_count_of_every_link_is_told_exactly(told: PeerStatus) -> None:
    samples = read(exposition(told))
    for name, kinds in (("bytes", KINDS), ("messages", KINDS[:2])):
        assert sent(samples, f"kseed_sent_{name}_total") == {
            labels(peer=told.peer, neighbour=one.peer, kind=kind): asdict(one)[f"{kind}_{name}"]
            for one in told.neighbours
            for kind in kinds
        }
    heard = [one for one in told.neighbours if one.silent_seconds is not None]
    assert sent(samples, "kseed_neighbour_silence_seconds") == {
        labels(peer=told.peer, neighbour=one.peer): one.silent_seconds for one in heard
    }


@given(statuses())
def test_what_a_peer_tells_of_itself(told: PeerStatus) -> None:
    samples, me = read(exposition(told)), labels(peer=told.peer)
    expected = {
        "kseed_round": told.round,
        "kseed_rounds": told.rounds,
        "kseed_peers": told.peers,
        "kseed_entries_held": told.held,
        "kseed_awaited_peers": len(told.waiting_for),
        "kseed_state_digest": int(told.digest[:DIGEST_DIGITS], 16),
        "kseed_clock_seconds": told.now,
        "kseed_peak_memory_bytes": told.peak_memory_bytes,
    }
    assert {name: samples[name, me] for name in expected} == expected
    for name, value in (("cut_round", told.cut_round), ("training_loss_nats", told.loss)):
        assert samples.get((f"kseed_{name}", me)) == value
    phases = sent(samples, "kseed_phase")
    assert {dict(key)["phase"] for key, value in phases.items() if value} == {told.phase}
    assert len(phases) == len(Phase)


def test_the_metrics_of_a_peer() -> None:
    page = exposition(status(neighbours=[1])).decode()
    ours = [line for line in page.splitlines() if line.startswith("kseed")]
    assert 'kseed_sent_bytes_total{kind="payload",neighbour="1",peer="0"} 300.0' in ours
    names = {re.split("[{ ]", line)[0] for line in ours}
    assert names == {
        "kseed_peer_info",
        "kseed_phase",
        "kseed_peers",
        "kseed_rounds",
        "kseed_round",
        "kseed_state_digest",
        "kseed_cut_round",
        "kseed_training_loss_nats",
        "kseed_entries_held",
        "kseed_entries_received_total",
        "kseed_timeouts_total",
        "kseed_rejected_messages_total",
        "kseed_garbage_messages_total",
        "kseed_dropped_messages_total",
        "kseed_accused_peers",
        "kseed_awaited_peers",
        "kseed_start_time_seconds",
        "kseed_clock_seconds",
        "kseed_peak_memory_bytes",
        "kseed_sent_bytes_total",
        "kseed_sent_messages_total",
        "kseed_neighbour_silence_seconds",
        "kseed_link_open",
        "kseed_neighbour_reached",
        "kseed_neighbour_banned",
    }
    assert "process_resident_memory_bytes" in page


def test_a_text_cannot_forge_a_metric() -> None:
    told = status(method='x"} 1\nkseed_round{peer="0"} 99\n', neighbours=[1])
    samples = read(exposition(told))
    assert samples["kseed_round", labels(peer=0)] == told.round


def test_what_has_not_been_heard_has_no_silence() -> None:
    told = status(neighbours=[])
    never = neighbour(1, silent_seconds=None)
    page = exposition(PeerStatus(**{**vars(told), "neighbours": (never,)}))
    assert b"kseed_neighbour_silence_seconds{" not in page


@pytest.mark.slow
def test_at_the_end_of_a_run_metrics_equal_its_links_file(tmp_path: Path) -> None:
    peers = 3
    first = free_range(peers)
    options = {"trainer": "synthetic", "peers": peers, "rounds": 3, "metrics_port": first}
    out = tmp_path / "run"
    pages: dict[int, bytes] = {}
    with kseed("launch", *flags(options), "--out", out, folder=tmp_path) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            for peer in range(peers):
                with suppress(OSError):
                    address = f"{HOST}:{first + peer}"
                    if peer not in pages:
                        # Who is watched waits a while at its end, until that has been seen.
                        get(address, "/status")
                    code, kind, page = get(address, "/metrics")
                    if code == 200:
                        assert kind.startswith("text/plain; version=")
                        pages[peer] = page
        end = end_of(process)
    assert end.status == 0, end.err
    told = {key: value for page in pages.values() for key, value in read(page).items()}
    for row in links(out):
        link = {"peer": row["sender"], "neighbour": row["receiver"]}
        for kind in KINDS:
            key = "kseed_sent_bytes_total", labels(kind=kind, **link)
            assert told.pop(key) == row[f"{kind}_bytes"]
        for kind in KINDS[:2]:
            key = "kseed_sent_messages_total", labels(kind=kind, **link)
            assert told.pop(key) == row[f"{kind}_messages"]
    assert not any(name.startswith("kseed_sent") for name, _ in told)
    ended = [told["kseed_phase", labels(peer=p, phase="ended")] for p in range(peers)]
    assert ended == [1.0] * peers
