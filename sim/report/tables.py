"""The tables of a report: cells are texts, and long tables say what they leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peer.config import Experiment, experiment_from
from peer.declarations import options
from peer.records import LINKS, NEVER_SAVED, ROUNDS, SUMMARY, TASKS
from peer.scenario import Incident
from sim.called import called, promises_equal_bits
from sim.report.folder import Run
from sim.report.troubles import camps, compared
from sim.words import bytes_in_words, ranges, seconds_in_words

MOST_ROWS = 200
_BUSIEST = 12
"""Links that are listed."""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading.

    Attributes:
        caption: what it shows.
        head: headings of the columns; # begins those over numbers, ~ those over sentences.
        rows: as many cells each as there are columns.
        note: what one should know of it; empty: nothing.
    """

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The headings, and what is below them: number, prose or nothing in particular."""
        kinds = {"#": "number", "~": "prose"}
        return [(title.lstrip("#~"), kinds.get(title[0], "")) for title in self.head]


def changed_options(run: Run) -> Table:
    """Return the options whose values are not the defaults."""
    # Its method has defaults of its own; that it is another than the usual one is told.
    method = run.experiment.method
    usual = vars(experiment_from({"method": method})) | {"method": Experiment.method}
    rows = [
        (item.name, _value(value), _value(usual[item.name]), item.metadata["help"])
        for item in options()
        if item.name not in NEVER_SAVED
        and (value := getattr(run.experiment, item.name)) != usual[item.name]
    ]
    head = ("option", "here", "default", "~what it is")
    return Table("Options that differ from the defaults", head, rows)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def scenario(run: Run) -> Table:
    """Return what was to befall the run."""
    rows = [
        (incident.verb, ranges(incident.peers) or "–", _when(incident))
        for incident in run.experiment.scenario
    ]
    return Table("What was to befall the run", ("what", "peers", "when"), rows)


def _when(incident: Incident) -> str:
    if incident.round is not None:
        return f"round {incident.round:,}"
    return f"{incident.time:g} s after the start"


def befallen(run: Run) -> Table:
    """Return what has befallen the run, and what simulated links have done to its frames."""
    assert run.summary is not None
    faults = run.summary["faults"]
    rows = [
        (name, f"{number:,}") for name, number in faults.items() if type(number) is int and number
    ]
    network = run.summary.get("network")
    if isinstance(network, dict):
        # Frames that were delivered are no mishap.
        rows += [
            (f"frames {name}", f"{number:,}")
            for name, number in network.items()
            if name != "delivered" and type(number) is int and number
        ]
    return Table("What has befallen the run", ("what", "#how often"), rows)


def rounds(run: Run) -> Table:
    """Return the rounds, with what was sent in each."""
    names = called(run.experiment.method)
    head = [
        "#round",
        "#bytes sent",
        f"#of these {names.payload}",
        "#skipped steps",
        names.merged,
    ]
    with_loss = any(record["eval_loss"] is not None for record in run.rounds)
    if with_loss:
        head[1:1] = ["#held-out loss", "#training loss"]
    with_rouge = any(record.get("rouge_l") is not None for record in run.rounds)
    if with_rouge:
        head[3:3] = ["#Rouge-L (%)"]
    more = _more_columns(run)
    head[-1:-1] = [title for title, _ in more]
    rows = []
    before = {"wire_bytes": 0, "payload_bytes": 0}
    for record in run.rounds:
        losses = (_loss(record["eval_loss"]), _loss(record["train_loss"])) if with_loss else ()
        rows.append(
            (
                f"{record['round']:,}",
                *losses,
                *((_per_cent(record.get("rouge_l")),) if with_rouge else ()),
                f"{record['wire_bytes'] - before['wire_bytes']:,}",
                f"{record['payload_bytes'] - before['payload_bytes']:,}",
                f"{record['skipped_steps']:,}",
                *(cell(record) for _, cell in more),
                record["accumulator"],
            )
        )
        before = {name: record[name] for name in before}
    shown, note = _shortened(rows, ROUNDS)
    start = "0 is before the first round. Bytes are those of all peers together"
    losses_are = "; losses are nats per token" if with_loss else ""
    note = f"{start}, since the round before{losses_are}. {note}".rstrip()
    return Table("Round by round", tuple(head), shown, note)


def _more_columns(run: Run) -> list[tuple[str, Callable[[Any], str]]]:
    """Return the columns of rounds that only some runs have."""
    columns: list[tuple[str, str, Callable[[Any], str]]] = [
        ("consensus_distance", "#peers from their mean", "{:.3g}".format),
        ("perturbations", "#perturbations", "{:,}".format),
    ]

    def cell(key: str, in_words: Callable[[Any], str]) -> Callable[[Any], str]:
        return lambda record: "–" if record.get(key) is None else in_words(record[key])

    return [
        (title, cell(key, in_words))
        for key, title, in_words in columns
        if any(record.get(key) is not None for record in run.rounds)
    ]


def _loss(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"


def _per_cent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def tasks(run: Run) -> Table:
    """Return what the model was before and after in each task; no rows if there is nothing."""
    measured = [] if run.summary is None else run.summary.get("tasks", [])
    with_rouge = any(task["rouge_l"] is not None for task in measured)
    head = ["task", "#held-out rows", "#loss before", "#after"]
    note = "Losses are nats per token."
    if with_rouge:
        head += ["#Rouge-L before (%)", "#after"]
        note += " Rouge-L is the mean over the answers to some of the rows."
    rows = []
    for task in measured:
        loss, rouge = task["loss"], task["rouge_l"] or {"initial": None, "final": None}
        shares = (_per_cent(rouge["initial"]), _per_cent(rouge["final"])) if with_rouge else ()
        rows.append(
            (
                task["task"] or "–",
                f"{task['rows']:,}",
                _loss(loss["initial"]),
                _loss(loss["final"]),
                *shares,
            )
        )
    shown, left_out = _shortened(rows, TASKS)
    return Table("Task by task", tuple(head), shown, f"{note} {left_out}".rstrip())


def _shortened(rows: list[tuple[str, ...]], file: str) -> tuple[list[tuple[str, ...]], str]:
    """Return at most `MOST_ROWS` rows, those at both ends, and what is to be said of the others."""
    if len(rows) <= MOST_ROWS:
        return rows, ""
    half = MOST_ROWS // 2
    note = f"{len(rows) - 2 * half:,} rows in the middle are left out; {file} has them."
    return rows[:half] + rows[-half:], note


def traffic(run: Run) -> Table:
    """Return bytes and messages by what they were for; no rows if nothing is known to be sent."""
    total = run.traffic.total()
    frames = total.payload_messages + total.control_messages
    rows = [
        (name, f"{number:,}", f"{100 * number / total.wire_bytes:.1f} %", messages)
        for name, number, messages in (
            (
                f"{called(run.experiment.method).payload} (payload)",
                total.payload_bytes,
                f"{total.payload_messages:,}",
            ),
            ("control", total.control_bytes, f"{total.control_messages:,}"),
            ("framing", total.framing_bytes, "–"),
            ("handshakes", total.handshake_bytes, "–"),
            ("all", total.wire_bytes, f"{frames:,}"),
        )
        if total.wire_bytes
    ]
    note = "Framing is what ZMTP adds to a frame, handshakes are what it takes to connect."
    head = ("what for", "#bytes", "#share", "#messages")
    return Table("Bytes by what they were for", head, rows, note)


def busiest_links(run: Run) -> Table:
    """Return the links that have carried most, both directions together."""
    directed = {(i, j): sent.wire_bytes for i, j, sent in run.traffic.links()}
    both = run.traffic.over_links()
    most = sorted(both.items(), key=lambda item: (-item[1], item[0]))[:_BUSIEST]
    whole = sum(both.values())
    rows = [
        (
            f"{run.called(i)} – {run.called(j)}",
            f"{sent:,}",
            f"{directed.get((i, j), 0):,}",
            f"{directed.get((j, i), 0):,}",
            f"{100 * sent / whole:.1f} %" if whole else "–",
        )
        for (i, j), sent in most
    ]
    note = (
        f"The first {len(rows):,} of {len(both):,}; {LINKS} has all."
        if len(both) > _BUSIEST
        else ""
    )
    head = ("link", "#bytes", "#from the first", "#from the second", "#share of all bytes")
    return Table("The busiest links", head, rows, note)


def peers(run: Run) -> Table:
    """Return what each peer has sent and received, and what is known of it else."""
    sent: Counter[int] = Counter()
    received: Counter[int] = Counter()
    for sender, receiver, link in run.traffic.links():
        sent[sender] += link.wire_bytes
        received[receiver] += link.wire_bytes
    columns: list[tuple[str, Callable[[int], str]]] = [
        ("peer", run.called),
        ("#bytes sent", lambda peer: f"{sent[peer]:,}"),
        ("#bytes received", lambda peer: f"{received[peer]:,}"),
    ]
    graph, summary = run.graph, run.summary
    if graph is not None:
        columns.insert(1, ("#neighbours", lambda peer: f"{len(graph.neighbours(peer)):,}"))
    if summary is not None:
        got = dict(zip(run.there, summary["entries"]["received_per_peer"], strict=True))
        payload = called(run.experiment.method).payload
        columns.append(
            (f"#{payload} received", lambda peer: f"{got[peer]:,}" if peer in got else "–")
        )
        if summary["data"] is not None:
            held = summary["data"]["rows_per_peer"]
            columns.append(("#rows of data", lambda peer: f"{held[peer]:,}"))
        states = _states(run)
        if states:
            columns.append(("~remarks", lambda peer: ", ".join(states.get(peer, ()))))
    rows = [tuple(text(peer) for _, text in columns) for peer in range(run.experiment.peers)]
    shown, note = _shortened(rows, LINKS)
    return Table("Peer by peer", tuple(title for title, _ in columns), shown, note)


def _states(run: Run) -> dict[int, list[str]]:
    """Return what is to be remarked of peers."""
    assert run.summary is not None
    found: dict[int, list[str]] = {}
    for key, remark in (("absent_peers", "absent at the end"), ("missing_peers", "log missing")):
        for peer in run.summary[key]:
            found.setdefault(peer, []).append(remark)
    for liar in run.summary["liars"]:
        found.setdefault(liar["peer"], []).append("found guilty")
    for what, name in compared(run) if promises_equal_bits(run.summary) else ():
        for camp in camps(run, what)[1:]:
            for peer in camp.peers:
                found.setdefault(peer, []).append(f"another {name}")
    return found


def digests(run: Run) -> Table:
    """Return with which digests the peers have ended."""
    rows: list[tuple[str, ...]] = [
        (name, camp.digest, f"{len(camp.peers):,}", ranges(camp.peers))
        for what, name in compared(run)
        for camp in camps(run, what)
    ]
    shown, note = _shortened(rows, SUMMARY)
    return Table("Digests at the end", ("of", "digest", "#peers", "~which"), shown, note)


def times(run: Run) -> Table:
    """Return how long the run took for what, and its memory."""
    assert run.summary is not None
    seconds = run.summary["seconds"]
    names = {
        "wall": "the whole run",
        "local_steps": "local steps, summed over the peers",
        "rebuild": "rebuilding models",
        "evaluation": "evaluating models",
        "virtual": "the simulated peers' own time",
    }
    rows = [
        (names[name], seconds_in_words(seconds[name]))
        for name in names
        if isinstance(seconds.get(name), int | float)
    ]
    rows.append(("greatest memory of a process", bytes_in_words(run.summary["peak_memory_bytes"])))
    return Table("Time and memory", ("what", "#how much"), rows)


def processes(run: Run) -> Table:
    """Return the processes of a launched run."""
    listed: Sequence[Any] = () if run.summary is None else run.summary.get("processes") or ()
    known = [each for each in listed if isinstance(each, dict)]
    keys = ("peer", "pid", "address", "lives")
    rows = [tuple(str(each.get(key, "–")) for key in keys) for each in known]
    shown, note = _shortened(rows, SUMMARY)
    head = ("peer", "#last process id", "address", "#lives")
    return Table("Processes", head, shown, note)
