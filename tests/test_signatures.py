"""Signatures: made once by an origin, checked by everybody before anything is stored or sent on."""

from __future__ import annotations

import networkx as nx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from mesh import Mesh, agreement, history, met, receive, secret, sign_as, state, whole_run

from peer.entry import SIGNATURE_BYTES, Entry, decode_entry, make_ack, make_end
from peer.events import Banned, EntryAdded, Finished, Rejected
from peer.protocol import Protocol
from peer.signatures import public_key, signer, verify
from peer.wire import Entries

secrets = st.binary(min_size=32, max_size=32)


@given(secrets, st.binary(max_size=200))
def test_what_was_signed_is_verified_and_nothing_else(key: bytes, message: bytes) -> None:
    signature = signer(key)(message)
    assert len(signature) == SIGNATURE_BYTES
    assert verify(public_key(key), message, signature)
    assert not verify(public_key(key), message + b"x", signature)
    assert not verify(public_key(bytes(32)), message, signature) or key == bytes(32)
    changed = bytes([signature[0] ^ 1]) + signature[1:]
    assert not verify(public_key(key), message, changed)


def test_golden_signature() -> None:
    """RFC 8032, section 7.1, test 2."""
    key = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert public_key(key).hex() == (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    )
    assert signer(key)(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_none(length: int) -> None:
    assert not verify(public_key(secret(1)), b"message", bytes(length))


def test_an_entry_is_signed_with_what_the_run_is() -> None:
    """The whole body and the context are covered; design section 5."""
    protocol = agreement(3, signed=True, context=b"this run")
    for entry in (
        history(protocol, 1, 0, 0),
        make_end(1, 0, 3, sign_as(1, protocol)),
        make_ack(1, 0, 0, bytes(8), sign_as(1, protocol)),
    ):
        assert entry.signature is not None
        assert entry.content.endswith(entry.signature)
        public = Ed25519PublicKey.from_public_bytes(protocol.public_keys[1])
        public.verify(entry.signature, b"kseed entry" + b"this run" + entry.body)


def test_a_signed_run_ends_like_an_unsigned_one() -> None:
    ring = nx.cycle_graph(5)
    plain, signed = whole_run(ring), whole_run(ring, signed=True)
    for mesh in (plain, signed):
        assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
        assert mesh.rejected() == []
    assert signed.accumulators() == plain.accumulators()
    assert all(e.signature is not None for disk in signed.disks.values() for e in disk)


def forged(protocol: Protocol) -> dict[str, Entry]:
    honest = history(protocol, 2, 0, 0)
    assert honest.signature is not None
    other = history(protocol, 2, 0, 0, fill=0.25)
    return {
        "another's": history(protocol, 2, 0, 0, sign=sign_as(1, protocol)),
        "zeros": history(protocol, 2, 0, 0, sign=lambda _: bytes(64)),
        "altered": history(protocol, 2, 0, 0, fill=0.25, sign=lambda _: honest.signature or b""),
        "other run": history(
            protocol, 2, 0, 0, sign=lambda body: signer(secret(2))(b"kseed entry" + body + b"x")
        ),
        "missing": decode_entry(other.body),
        "END": make_end(2, 0, 3, sign_as(1, protocol)),
    }


@pytest.mark.parametrize("kind", ["another's", "zeros", "altered", "other run", "missing", "END"])
def test_a_forged_entry_is_refused_and_its_sender_banned(kind: str) -> None:
    """Every honest peer looks before it sends on, so the sender has made it, or is no better."""
    protocol = agreement(3, signed=True)
    gossip, _ = met(0, [1, 2], protocol)
    before = state(gossip)
    output = receive(gossip, Entries((forged(protocol)[kind],)), 1, 0.5)
    assert [type(event) for event in output.events] == [Rejected, Banned]
    assert output.messages == []
    assert state(gossip) == before
    # It is not heard any more; the origin itself is.
    assert receive(gossip, Entries((history(protocol, 1, 0, 0),)), 1, 0.6).events == []
    entry = history(protocol, 2, 0, 0)
    assert receive(gossip, Entries((entry,)), 2, 0.7).events[0] == EntryAdded(entry)


def test_without_disconnection_a_forger_is_only_named() -> None:
    protocol = agreement(3, signed=True, disconnects=False)
    gossip, _ = met(0, [1, 2], protocol)
    for _ in range(100):
        output = receive(gossip, Entries((forged(protocol)["zeros"],)), 1, 0.5)
        assert [type(event) for event in output.events] == [Rejected]
    entry = history(protocol, 1, 0, 0)
    assert receive(gossip, Entries((entry,)), 1, 0.6).events[0] == EntryAdded(entry)


def test_a_run_goes_on_without_a_forger() -> None:
    """Peer 3 alters what it forwards; its own entries go their way, from the other neighbour."""
    protocol = agreement(6, signed=True, rounds=4, round_timeout=300.0)
    mesh = Mesh(nx.cycle_graph(6), protocol)
    mesh.start()
    fake = history(protocol, 1, 1, 1, fill=0.9, sign=lambda _: bytes(64))
    mesh.at(
        0.3,
        lambda: mesh.deliver(3, 4, b"\x92\x02\x91\xc4" + bytes([len(fake.content)]) + fake.content),
    )
    mesh.run()
    assert len(mesh.logs()) == 1
    assert len(mesh.accumulators()) == 1
    assert all(life.gossip.finished == Finished(()) for life in mesh.lives.values())
    assert [(event.neighbour) for event in mesh.bans()] == [3]


def test_signatures_in_a_run_without_are_refused() -> None:
    plain, signed = agreement(3), agreement(3, signed=True)
    gossip, _ = met(0, [1], plain)
    output = receive(gossip, Entries((history(signed, 1, 0, 0),)), 1, 0.5)
    assert [type(event) for event in output.events] == [Rejected]
    assert "not signed in this run" in output.events[0].reason
