"""What befalls a run: the `[[scenario]]` tables of an experiment's file, in order.

Each table has a `verb`, whom it befalls (`peer` or `peers`), and either a `round`, which is the
highest that any live peer has started, or a `time` in seconds since the run's start.

crash      dies at once; what it has stored stays
restart    starts again from what it has stored
join       is not there before; starts when round r begins, is active from round r + 1 on
leave      is not active from round r on, closes its log, and goes when its neighbours have it all
evict      a dead peer that is not active from round r on, and whose END nobody waits for
partition  these peers are cut off from all others
repair     all cuts are mended
hold       is frozen, its links stay
release    goes on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from peer.errors import UserError

VERBS: Final = (
    "crash",
    "restart",
    "join",
    "leave",
    "evict",
    "partition",
    "repair",
    "hold",
    "release",
)
ROSTER_CHANGES: Final = ("join", "leave", "evict")
"""Every peer must know beforehand in which round they take effect."""

EXAMPLE: Final = """\
# What befalls the run, each at a round or at a time in seconds: crash, restart, join, leave, evict,
# partition, repair, hold, release. These tables come last in the file.
#
# [[scenario]]
# verb = "crash"
# peer = 3
# round = 2
#
# [[scenario]]
# verb = "restart"
# peer = 3
# time = 30.0
#
# [[scenario]]
# verb = "partition"
# peers = [0, 1]
# round = 4
#
# [[scenario]]
# verb = "repair"
# round = 5
"""
"""What `kseed init` writes of it."""

_KEYS: Final = ("verb", "peer", "peers", "round", "time")


@dataclass(frozen=True)
class Incident:
    """One thing that befalls a run.

    Attributes:
        verb: one of `VERBS`.
        peers: whom, in ascending order; nobody for a repair.
        round: it happens when the first live peer starts this round; None: by time.
        time: it happens so many seconds after the start; None: by round.
    """

    verb: str
    peers: tuple[int, ...]
    round: int | None
    time: float | None


def parse_scenario(tables: Sequence[Mapping[str, Any]]) -> tuple[Incident, ...]:
    """Return the incidents of a file's tables, in the file's order.

    Raises:
        UserError: a table is not one of a scenario, in one line with its number from 1.
    """
    if not isinstance(tables, list | tuple) or not all(isinstance(t, Mapping) for t in tables):
        raise UserError(f"scenario = {_shown(tables)} is not allowed: must be tables [[scenario]]")
    return tuple(_parse(number, table) for number, table in enumerate(tables, 1))


def check_scenario(incidents: Iterable[Incident], peers: int, rounds: int) -> None:
    """Hold a scenario against the size of its run, and its incidents against one another.

    Those of one peer are looked at in the order in which they happen. It is not known beforehand
    how incidents by round and by time mix, so such a mixture is taken in the file's order.

    Raises:
        UserError: it cannot be played, in one line.
    """
    numbered = list(enumerate(incidents, 1))
    for number, incident in numbered:
        for peer in incident.peers:
            if peer >= peers:
                _refuse(number, incident.verb, f"peer {peer}, there are peers 0 to {peers - 1}")
        if incident.round is not None and incident.round >= rounds:
            _refuse(number, incident.verb, f"round {incident.round}, the last one is {rounds - 1}")
        if incident.verb == "partition" and len(incident.peers) == peers:
            _refuse(number, incident.verb, "all peers, so there is nobody to cut them off from")
    for peer in sorted({peer for _, incident in numbered for peer in incident.peers}):
        _check_life(peer, _in_order([pair for pair in numbered if peer in pair[1].peers]))
    cut = False
    links = [pair for pair in numbered if pair[1].verb in ("partition", "repair")]
    for number, incident in _in_order(links):
        if incident.verb == "repair" and not cut:
            _refuse(number, incident.verb, "no partition before it")
        cut = incident.verb == "partition"
    first, last = membership([incident for _, incident in numbered], peers)
    for round_ in sorted({0, *(end for end in last if end is not None)}):
        if not any(
            begin <= round_ and (end is None or round_ < end)
            for begin, end in zip(first, last, strict=True)
        ):
            raise UserError(f"scenario: nobody is left to take part in round {round_}")


def membership(
    incidents: Iterable[Incident], peers: int
) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """Return each peer's first active round, and the one from which it is no longer active."""
    first = [0] * peers
    last: list[int | None] = [None] * peers
    for incident in incidents:
        if incident.verb in ROSTER_CHANGES:
            assert incident.round is not None
            for peer in incident.peers:
                if incident.verb == "join":
                    first[peer] = incident.round + 1
                else:
                    last[peer] = incident.round
    return tuple(first), tuple(last)


def evicted(incidents: Iterable[Incident]) -> frozenset[int]:
    """Return the peers of whom no END is waited for."""
    return frozenset(
        peer for incident in incidents if incident.verb == "evict" for peer in incident.peers
    )


class Script:
    """The incidents that have not happened yet."""

    def __init__(self, incidents: Iterable[Incident]) -> None:
        self._pending = list(incidents)

    @property
    def next_time(self) -> float | None:
        """When the next incident by time is due, in seconds since the start; None: no more."""
        return min((i.time for i in self._pending if i.time is not None), default=None)

    def due(self, now: float, highest_round: int) -> list[Incident]:
        """Take out and return what is to happen, by time, then by round, then as in the file.

        Args:
            now: seconds since the start.
            highest_round: the highest that any live peer has started, -1 before that.
        """
        ready: list[Incident] = []
        pending: list[Incident] = []
        for incident in self._pending:
            if incident.time is not None:
                happens = incident.time <= now
            else:
                happens = incident.round is not None and incident.round <= highest_round
            (ready if happens else pending).append(incident)
        self._pending = pending
        return sorted(ready, key=lambda i: (now if i.time is None else i.time, i.round or 0))


@dataclass
class _Life:
    """What is known of one peer when its incidents are walked."""

    state: str = "up"
    held: bool = False
    joined: int = -1


def _check_life(peer: int, incidents: Sequence[tuple[int, Incident]]) -> None:
    life = _Life("absent" if any(i.verb == "join" for _, i in incidents) else "up")
    for number, incident in incidents:
        wrong = _next_state(life, incident)
        if wrong:
            _refuse(number, incident.verb, f"peer {peer} {wrong}")


_WHY_NOT_UP: Final = {
    "absent": "has not joined before",
    "down": "has crashed before, and not been restarted",
    "gone": "has left before",
    "evicted": "has been evicted before",
}


def _next_state(life: _Life, incident: Incident) -> str:
    """Let an incident befall a peer; return what is wrong with that, or nothing."""
    verb = incident.verb
    wrong = _WHY_NOT_UP.get(life.state, "")
    match verb:
        case "crash":
            life.state, life.held = "down", False
        case "restart":
            wrong = "" if life.state == "down" else "has not crashed before"
            life.state = "up"
        case "join":
            wrong = "" if life.state == "absent" else "joins twice"
            life.state, life.joined = "up", incident.round or 0
        case "leave":
            if not wrong and incident.round is not None and incident.round <= life.joined + 1:
                wrong = "would never be active"
            life.state = "gone"
        case "evict":
            dead = life.state == "down" or (life.state == "up" and life.held)
            wrong = "" if dead else "has neither crashed before nor is it held"
            life.state = "evicted"
        case "hold":
            wrong = wrong or ("is held already" if life.held else "")
            life.held = True
        case "release":
            wrong = "" if life.held else "has not been held before"
            life.held = False
        case _:
            wrong = ""
    return wrong


def _in_order(numbered: Sequence[tuple[int, Incident]]) -> list[tuple[int, Incident]]:
    """Return incidents in the order in which they happen, as far as it is known."""
    if len({incident.round is None for _, incident in numbered}) > 1:
        return list(numbered)
    return sorted(numbered, key=lambda pair: (pair[1].round or 0, pair[1].time or 0.0))


def _parse(number: int, table: Mapping[str, Any]) -> Incident:
    values = {key: value for key, value in table.items() if value is not None}
    verb = values.get("verb")
    for key in values:
        if key not in _KEYS:
            hint = _hint(key, _KEYS)
            _refuse(number, verb, f"{_shown(key)} = {_shown(values[key])}, no such key; {hint}")
    if verb not in VERBS:
        text = verb if isinstance(verb, str) else ""
        what = f"no such verb; {_hint(text, VERBS)}" if "verb" in values else "a verb is missing"
        _refuse(number, verb, what)
    peers = _parse_peers(number, verb, values)
    if ("round" in values) == ("time" in values):
        _refuse(number, verb, "wants either a round or a time")
    if verb in ROSTER_CHANGES and "round" not in values:
        _refuse(number, verb, "wants a round and no time: it changes the roster")
    round_, time = values.get("round"), values.get("time")
    # A bool is a whole number to Python.
    if round_ is not None and (type(round_) is not int or round_ < 0):
        _refuse(number, verb, f"round = {_shown(round_)}, must be a whole number from 0")
    if verb == "leave" and round_ == 0:
        _refuse(number, verb, "round = 0, so it would never be active")
    if time is not None:
        if type(time) not in (int, float) or not 0 <= time <= 1e9:
            _refuse(number, verb, f"time = {_shown(time)}, must be seconds from 0 to 1e9")
        time = float(time)
    return Incident(verb, peers, round_, time)


def _parse_peers(number: int, verb: str, values: Mapping[str, Any]) -> tuple[int, ...]:
    if "peer" in values and "peers" in values:
        _refuse(number, verb, "has both peer and peers")
    peers = [values["peer"]] if "peer" in values else values.get("peers", [])
    known = isinstance(peers, list | tuple) and all(type(p) is int and p >= 0 for p in peers)
    if not known or len(set(peers)) != len(peers):
        shown = _shown(values.get("peer", peers))
        _refuse(number, verb, f"peers = {shown}, must be different whole numbers from 0")
    if verb == "repair" and peers:
        _refuse(number, verb, "takes no peers, it mends all cuts")
    if verb != "repair" and not peers:
        _refuse(number, verb, "wants a peer or peers")
    return tuple(sorted(peers))


def _hint(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {near[0]}?" if near else "allowed are " + ", ".join(known)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _refuse(number: int, verb: Any, what: str) -> NoReturn:
    name = verb if isinstance(verb, str) and verb in VERBS else _shown(verb)
    raise UserError(f"scenario {number}{'' if verb is None else f' ({name})'}: {what}")
