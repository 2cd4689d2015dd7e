"""A process that stores is killed again and again, at random moments; nothing it has said is lost.

    python tests/scenarios/killed_store.py [KILLS [SEED]]

The process appends entries of random contents, bases and proofs, and says so when the store has
come back from each. After every kill the store must hold what was said, whole batches only, runs
without gaps, and never another content under a number that has been seen. Checkpoints, in which
SQLite moves pages from the log into the database, are forced often, and kills are aimed at them.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from random import Random
from signal import SIGKILL
from tempfile import TemporaryDirectory
from threading import Timer

from peer.entry import Entry, make_history
from peer.store import EntryStore

ORIGINS = (0, 3, 70_000)
LONGEST_DELAY = 0.004
"""Seconds from a word of the process to the kill: a few operations."""


def write(path: Path, seed: int) -> None:
    """Store for ever, and say what has been stored, one line per operation."""
    chance = Random(seed)
    with EntryStore(path) as store:
        # 0 is never: the log grows until the next checkpoint that is asked for below.
        store._database.execute(f"PRAGMA wal_autocheckpoint = {chance.choice((0, 1, 5))}")
        ends = Counter(store.floors)
        for entry in store.load():
            ends[entry.origin] = entry.sequence + 1
        number = 0
        while True:
            number += 1
            deed = chance.random()
            if deed < 0.9:
                batch = _batch(chance, seed, number, ends)
                store.append(batch, durable=chance.random() < 0.2)
                _say("entries", *(f"{e.origin}:{e.sequence}:{_digest(e)}" for e in batch))
            elif deed < 0.94:
                content = b"%d" % sum(ends.values()) + bytes(chance.randrange(20_000))
                store.save_base(content, ends)
                _say("base", str(sum(ends.values())))
            elif deed < 0.96:
                proof = chance.randbytes(chance.randint(1, 3_000))
                store.save_proof(proof)
                _say("proof", blake2b(proof, digest_size=8).hexdigest())
            else:
                _say("checkpoint")
                store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                _say("checkpointed")


def _batch(chance: Random, seed: int, number: int, ends: Counter[int]) -> list[Entry]:
    """Return entries of one batch: `round` is how many they are, `cut` which batch it is."""
    origins = chance.choices(ORIGINS, k=chance.randint(1, 6))
    batch = []
    for origin in origins:
        entry = make_history(
            origin,
            ends[origin],
            len(origins),
            weight=0.5,
            cut=seed.to_bytes(4) + number.to_bytes(4),
            scale=0,
            gradients=chance.randbytes(chance.randint(1, 3_000)),
            indices=None,
        )
        batch.append(entry)
        ends[origin] += 1
    return batch


def _digest(entry: Entry) -> str:
    return blake2b(entry.content, digest_size=8).hexdigest()


def _say(*words: str) -> None:
    print(*words, flush=True)


class Witness:
    """What has been said or seen, held against the store after each kill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[tuple[int, int], str] = {}
        self._proofs: set[str] = set()
        self._base = 0

    def hear(self, lines: Iterable[str]) -> None:
        """Take what the process has said."""
        for what, *words in map(str.split, lines):
            if what == "entries":
                for word in words:
                    origin, sequence, digest = word.split(":")
                    assert self._entries.setdefault((int(origin), int(sequence)), digest) == digest
            elif what == "base":
                self._base = int(words[0])
            elif what == "proof":
                self._proofs.add(words[0])

    def look(self) -> None:
        """Open the store and compare."""
        with EntryStore(self._path) as store:
            archive, runs = store.load_archive(), store.load()
            floors, base, proofs = store.floors, store.load_base(), store.load_proofs()
        held = {(entry.origin, entry.sequence): _digest(entry) for entry in archive}
        assert held.items() >= self._entries.items(), "an entry is lost, or another in its place"
        self._entries = held
        # No entry of this scenario is ever only in a base, so the archive is whole from 0 on.
        ends = Counter(entry.origin for entry in archive)
        assert held.keys() == {(o, number) for o in ends for number in range(ends[o])}
        above = [entry for entry in archive if entry.sequence >= floors.get(entry.origin, 0)]
        assert runs == above
        sizes = Counter(entry.cut for entry in archive)
        assert all(sizes[entry.cut] == entry.round for entry in archive), "a torn batch"
        stands_for = sum(floors.values())
        assert stands_for >= self._base
        assert base is None if not floors else base is not None
        assert base is None or base.rstrip(b"\0") == b"%d" % stands_for
        self._base = stands_for
        seen = {blake2b(proof, digest_size=8).hexdigest() for proof in proofs}
        assert seen >= self._proofs
        self._proofs = seen


def kill_again_and_again(folder: Path, kills: int, seed: int) -> int:
    """Kill so many processes that store into one file; return how many within a checkpoint."""
    chance = Random(seed)
    path = folder / "log.sqlite"
    witness = Witness(path)
    within = 0
    for _ in range(kills):
        command = [sys.executable, __file__, "--write", str(path), str(chance.getrandbits(31))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(chance.randint(1, 60))]
            while chance.random() < 0.95 and lines[-1] != "checkpoint\n":
                lines.append(process.stdout.readline())
            Timer(chance.random() ** 3 * LONGEST_DELAY, process.kill).start()
            # What it still says between the last line read and its death counts as well.
            lines += process.stdout.read().splitlines(keepends=True)
        assert process.returncode == -SIGKILL, "it has ended by itself"
        whole = [line for line in lines if line.endswith("\n")]
        witness.hear(whole)
        witness.look()
        within += whole[-1] == "checkpoint\n"
    return within


def main(arguments: list[str]) -> int:
    """Be the process that stores, or the one that kills; return the exit status."""
    if arguments[:1] == ["--write"]:
        write(Path(arguments[1]), int(arguments[2]))
    kills = int(arguments[0]) if arguments else 100
    seed = int(arguments[1]) if arguments[1:] else 0
    with TemporaryDirectory() as name:
        within = kill_again_and_again(Path(name), kills, seed)
    print(f"{kills} kills, {within} within a checkpoint: nothing is lost")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
