"""No message of an honest peer is too large for its run, and larger ones are not parsed."""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mesh import Mesh, agreement, history, secret

from peer.base import Base
from peer.errors import MalformedMessage, UserError
from peer.protocol import Protocol
from peer.seeding import SEEDINGS
from peer.signatures import signer
from peer.sizes import SMALL
from peer.wire import (
    FRAME_LIMIT,
    Announce,
    Entries,
    Heads,
    Message,
    Proof,
    Prune,
    Snapshot,
    Versions,
    Want,
    batches,
    encode,
    kind_of,
)

FAR = 2**32 - 1
"""The largest number, which takes the most bytes."""


def largest(protocol: Protocol) -> list[Message]:
    """The largest messages that any peer of a run could have a reason to send."""
    peers = range(FAR - len(protocol.roster.rows), FAR)
    versions = dict.fromkeys(peers, FAR)
    sign = signer(secret(0))
    entry = history(protocol, 0, 0, 0, sign=sign)
    other = history(protocol, 0, 0, 0, fill=0.25, sign=sign)
    count = protocol.seeds.sums if protocol.folds else 1
    sums = np.random.default_rng(0).integers(-(2**50), 2**50, (3, count))
    base = Base(FAR, dict.fromkeys(peers, (FAR, FAR)), 2**128 - 1, sums)
    return [
        max(batches([entry] * 5000), key=lambda batch: len(encode(batch))),
        Versions(versions, FAR),
        Announce(versions),
        Want(tuple((peer, FAR - 1, FAR) for peer in peers), graft=True),
        Prune(tuple(peers)),
        Heads(tuple((peer, FAR, bytes(8)) for peer in peers)),
        Proof(entry, other),
        Snapshot(base, (entry,) * protocol.most_witnesses),
    ]


@given(
    peers=st.integers(2, 3000),
    steps=st.integers(1, 3000),
    seeds=st.integers(1, 5000),
    gradient_bytes=st.sampled_from([1, 2, 4]),
    kind=st.sampled_from([*SEEDINGS]),
    blocks=st.integers(1, 300),
    participation=st.floats(0.01, 1.0),
)
def test_every_honest_message_is_let_through(
    peers: int,
    steps: int,
    seeds: int,
    gradient_bytes: int,
    kind: str,
    blocks: int,
    participation: float,
) -> None:
    protocol = agreement(
        peers,
        rows=(1,) * peers,
        local_steps=steps,
        candidate_seeds=seeds,
        gradient_bytes=gradient_bytes,
        seeding=kind,
        blocks=blocks,
        coordinates=min(steps, blocks * seeds),
        participation=participation,
    )
    try:
        messages = largest(protocol)
    except UserError:
        # A run with so many steps has to have a pool of seeds.
        assert kind == "endless"
        assume(False)
    for message in messages:
        if isinstance(message, Snapshot) and not protocol.folds:
            continue
        frame = encode(message)
        assert kind_of(frame) == type(message).__name__.upper()
        protocol.sizes.check(frame)


LARGE = agreement(2000, rows=(1,) * 2000, candidate_seeds=2000)
WITHOUT_ENTRIES = [m for m in largest(LARGE) if not isinstance(m, Entries | Proof)]


@pytest.mark.parametrize("message", WITHOUT_ENTRIES, ids=lambda m: type(m).__name__)
def test_what_no_peer_of_a_run_would_send_is_refused(message: Message) -> None:
    frame = encode(message)
    assert len(frame) > SMALL
    with pytest.raises(MalformedMessage, match=f"^{len(frame)} bytes in {kind_of(frame)}, at most"):
        agreement(3).sizes.check(frame)


@pytest.mark.parametrize("code", range(256))
def test_no_message_is_read_past_the_limit_of_its_kind(code: int) -> None:
    sizes = agreement(3).sizes
    for first in (0x90, 0x91, 0x92, 0x93, 0x96, 0xDC, 0xC1):
        frame = bytes([first, code]) + bytes(FRAME_LIMIT - 2)
        with pytest.raises(MalformedMessage, match="at most"):
            sizes.check(frame)
        sizes.check(frame[:SMALL])


def test_a_run_whose_bases_could_not_be_sent_does_not_fold() -> None:
    """The sums, the logs' ends and the witnesses share one frame."""
    fits = agreement(3, candidate_seeds=4096)
    assert fits.sizes.base_fits
    assert not agreement(3, candidate_seeds=2**17).sizes.base_fits
    ferret = {"seeding": "blocks", "candidate_seeds": 1024}
    assert agreement(3, blocks=4, **ferret).folds
    assert not agreement(3, blocks=2**7, **ferret).folds
    assert not agreement(3, seeding="endless").folds
    assert not agreement(2**17, rows=(1,) * 2**17, participation=0.01).sizes.base_fits
    assert not agreement(3, local_steps=2**18).sizes.base_fits
    mesh = Mesh(nx.path_graph(3), dataclasses.replace(fits, local_steps=2**18))
    assert not any(life.gossip._replica.folds for life in mesh.lives.values())
