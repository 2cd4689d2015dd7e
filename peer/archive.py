"""The archive of a run: what the stores of its peers hold together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from peer.base import Base
from peer.entry import Entry
from peer.errors import UserError
from peer.protocol import Protocol
from peer.recovery import stored_base, stored_proofs
from peer.store import EntryStore
from peer.wire import Proof


@dataclass(frozen=True)
class Archive:
    """What the stores of a run hold together.

    Attributes:
        base: None where the entries go back to the first round.
        entries: those above it, by origin and then by sequence number, but for what convicted
            origins have written from the proven number on.
        proofs: of the convictions.
    """

    base: Base | None
    entries: list[Entry]
    proofs: list[Proof]


def read_archive(paths: Iterable[Path], protocol: Protocol) -> Archive:
    """Return what these stores hold together.

    A peer that has started from a snapshot lacks entries that others hold, and the last entries of
    a run that was killed may have come to some peers only.

    Raises:
        UserError: one is damaged, in use or another experiment's, or they contradict each other.
    """
    held: dict[tuple[int, int], Entry] = {}
    bases: list[Base] = []
    proofs: dict[int, Proof] = {}
    differing: dict[tuple[int, int], Path] = {}
    for path in paths:
        with EntryStore(path) as store:
            base = stored_base(store, protocol)
            bases += [base] if base is not None else []
            for proof in stored_proofs(store):
                known = proofs.setdefault(proof.first.origin, proof)
                if proof.first.sequence < known.first.sequence:
                    proofs[proof.first.origin] = proof
            for entry in store.load_archive():
                place = entry.origin, entry.sequence
                if held.setdefault(place, entry).content != entry.content:
                    differing[place] = path
    base = max(bases, key=lambda base: base.round, default=None)
    floors = base.versions if base is not None else {}
    # As in `EntryLog.convict`, what a base stands for has been acknowledged by all, and stays.
    ends = {
        origin: max(proof.first.sequence, floors.get(origin, 0)) for origin, proof in proofs.items()
    }
    for (origin, sequence), path in differing.items():
        if sequence < ends.get(origin, sequence + 1):
            raise UserError(f"{path} and others differ in entry {sequence} of peer {origin}")
    entries = [
        held[origin, sequence]
        for origin, sequence in sorted(held)
        if sequence < ends.get(origin, sequence + 1)
    ]
    whole = all(
        (origin, sequence) in held for origin, end in floors.items() for sequence in range(end)
    )
    if whole:
        return Archive(None, entries, list(proofs.values()))
    above = [entry for entry in entries if entry.sequence >= floors.get(entry.origin, 0)]
    return Archive(base, above, list(proofs.values()))
