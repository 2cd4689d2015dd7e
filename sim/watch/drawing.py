"""A picture of the network, drawn to fit a terminal.

Above: how far the run is, and a sign for every peer. Then what is wrong, the peers, and the links:
beside each other where there is room, else below. What does not fit is summed up in a line; who is
in trouble is shown first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from peer.participant import Phase
from peer.status import PeerStatus
from sim.watch.network import LinkRow, Picture, Presence, Row, at_round, sent_by
from sim.watch.words import (
    DIGITS,
    digests_in_words,
    loss_in_words,
    oldest_silence,
    rounds_in_words,
    sent_in_words,
    silence_in_words,
    troubles,
    waiting_in_words,
)
from sim.words import bytes_in_words, count, printable

WIDE: Final = 120
"""Columns from which on links stand beside peers."""

MOST_WIDE: Final = 200
"""Columns past which nothing would become clearer."""

TROUBLES: Final = 4
"""Lines of what is wrong."""

FEWEST_LINKS: Final = 5
"""Lines of links below the peers, with their head; where there is no room, no links are drawn."""

FEWEST_PEERS: Final = 5
"""Lines of peers, with their head."""

State: TypeAlias = Phase | Presence

SIGNS: Final[dict[State, tuple[str, str]]] = {
    Phase.GREETING: ("◌", "yellow"),
    Phase.TRAINING: ("●", "green"),
    Phase.WAITING: ("○", "cyan"),
    Phase.ENDING: ("◐", "blue"),
    Phase.ENDED: ("✓", "bright_blue"),
    Presence.SILENT: ("✗", "bold red"),
    Presence.UNSEEN: ("·", "dim"),
}
"""What a peer does, in a character and a colour that do not hang on each other."""


def draw(picture: Picture, width: int, height: int) -> RenderableType:
    """Return the picture, of so many columns and lines at most."""
    width = min(width, MOST_WIDE)
    head = [*_head(picture, width), *_trouble_lines(picture), Text()]
    left = height - len(head)
    if left < FEWEST_PEERS + FEWEST_LINKS + 1:
        return Group(*head, _peers(picture, width, max(left, 3)))
    if width >= WIDE:
        aside = Table.grid(padding=(0, 3))
        aside.add_row(_peers(picture, width // 2 + 4, left), _links(picture, width // 2 - 8, left))
        return Group(*head, aside)
    # Peers first: of links the hottest tell most.
    links = min(len(picture.links) + 1, max(FEWEST_LINKS, left - len(picture.rows) - 2))
    below = _links(picture, width, links)
    return Group(*head, _peers(picture, width, left - links - 1), Text(), below)


def state_of(row: Row) -> State:
    """Return what a peer does, or why that is not known."""
    if row.presence is Presence.ENDED:
        return Phase.ENDED
    if row.presence is Presence.HERE and row.status is not None:
        return Phase(row.status.phase)
    return row.presence


def _head(picture: Picture, width: int) -> list[Text]:
    told = picture.known or [row.status for row in picture.rows if row.status is not None]
    what = f"{told[0].method} on {told[0].topology}" if told else "no peer has answered yet"
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(printable(what), "bold")
    title.append(f"   {count(len(picture.rows), 'peer')}", "dim")
    return [title, _progress(picture, width), _facts(picture), *_strip(picture, width)]


def _progress(picture: Picture, width: int) -> Text:
    """Return how many rounds have been closed, over all peers, as a bar."""
    words = rounds_in_words(picture)
    known = picture.known
    wanted = sum(status.rounds for status in known)
    share = sum(status.round for status in known) / wanted if wanted else 0.0
    room = max(10, width - len(words) - 8)
    line = Text(f"{words}  ", no_wrap=True)
    line.append_text(_bar(share, room, "green"))
    line.append(f" {100 * share:3.0f} %")
    return line


def _facts(picture: Picture) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    if picture.loss is not None:
        line.append("mean loss ", "dim").append(loss_in_words(picture.loss)).append("   ")
    style = "bold red" if picture.differing else "green" if picture.compared else "dim"
    line.append(digests_in_words(picture), style).append("   ")
    return line.append(sent_in_words(picture))


def _strip(picture: Picture, width: int) -> list[Text]:
    """Return a sign for every peer, and what the signs mean; in as many lines as it takes, four."""
    states = [state_of(row) for row in picture.rows]
    legend = Text(no_wrap=True, overflow="ellipsis")
    for state, (sign, style) in SIGNS.items():
        number = states.count(state)
        if number:
            legend.append("   " if legend else "").append(sign, style).append(f" {number} {state}")
    room = width - legend.cell_len - 3
    if len(states) <= room:
        line = _signs(picture.rows)
        return [line.append("   ").append_text(legend)]
    rows = [picture.rows[start : start + width] for start in range(0, len(states), width)]
    return [*map(_signs, rows[:3]), legend]


def _signs(rows: Sequence[Row]) -> Text:
    line = Text(no_wrap=True)
    for row in rows:
        sign, style = SIGNS[state_of(row)]
        line.append(sign, "bold red reverse" if row.differs else style)
    return line


def _trouble_lines(picture: Picture) -> list[Text]:
    found = troubles(picture)
    shown = found if len(found) <= TROUBLES else found[: TROUBLES - 1]
    lines = [Text(f"! {line}", "red", no_wrap=True, overflow="ellipsis") for line in shown]
    if len(found) > len(shown):
        lines.append(Text(f"! and {len(found) - len(shown)} more", "red"))
    return lines


def _peers(picture: Picture, width: int, height: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim", width=width)
    for title, right in (
        ("peer", True),
        ("", False),
        ("round", True),
        ("loss", True),
        ("digest", False),
        ("sent", True),
        ("entries", True),
        ("quietest", True),
        ("waits for", False),
    ):
        last = title == "waits for"
        table.add_column(
            title,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if last else None,
            min_width=None if last else len(title),
        )
    room = max(1, height - 1)
    shown = _most_notable(picture.rows, room)
    for row in shown:
        table.add_row(*_cells(row))
    rest = [row for row in picture.rows if row not in shown]
    return Group(table, _rest(rest)) if rest else table


def _most_notable(rows: Sequence[Row], room: int) -> list[Row]:
    """Return as many rows as fit, beside a line for the others: troubles, then who is behind."""
    if len(rows) <= room:
        return list(rows)
    well = (Presence.HERE, Presence.ENDED)

    def urgency(row: Row) -> tuple[bool, bool, int]:
        behind = row.status.round if row.status is not None else -1
        return row.presence in well, not row.differs, behind

    chosen = sorted(rows, key=urgency)[: max(1, room - 1)]
    return [row for row in rows if row in chosen]


def _rest(rows: Sequence[Row]) -> Text:
    rounds = [at_round(row.status) for row in rows if row.status is not None]
    text = f"… {count(len(rows), 'peer')} more"
    if rounds:
        text += f", in round {min(rounds)}" + f"–{max(rounds)}" * (max(rounds) > min(rounds))
    return Text(text, "dim")


def _cells(row: Row) -> list[Text]:
    state = state_of(row)
    sign, style = SIGNS[state]
    doing = Text.assemble((sign, style), f" {state}")
    status = row.status
    if status is None:
        return [Text("?"), doing, *[Text()] * 6, Text(printable(row.address))]
    faint = "dim" if row.presence is Presence.SILENT else ""
    return [
        Text(str(status.peer), "bold"),
        doing,
        Text(f"{at_round(status)}", faint),
        Text(loss_in_words(status.loss), faint),
        Text(status.digest[:DIGITS], "bold red" if row.differs else faint),
        Text(bytes_in_words(sent_by(status)), faint),
        Text(f"{status.received:,}", faint),
        _quietest(status),
        Text(printable(row.why) or waiting_in_words(status) or "–", faint),
    ]


def _quietest(status: PeerStatus) -> Text:
    oldest = oldest_silence(status)
    if oldest is None or status.phase == Phase.ENDED:
        return Text("–")
    peer, seconds = oldest
    return Text.assemble((f"{peer}: ", "dim"), silence_in_words(seconds))


def _links(picture: Picture, width: int, height: int) -> RenderableType:
    if not picture.links or height < 1:
        return Text()
    room = max(1, height - 1)
    shown = picture.links if len(picture.links) <= room else picture.links[: max(1, room - 1)]
    most = max(max(link.upward or 0, link.downward or 0) for link in shown)
    names = max(len(f"{link.low} ⇄ {link.high}") for link in shown)
    bar = max(4, (width - names - 2 * 14) // 2)
    lines = [Text(f"{'links':<{names}}   bytes sent by the lower, and by the higher peer", "dim")]
    lines[0].no_wrap = True
    lines += [_link(link, most, names, bar) for link in shown]
    rest = picture.links[len(shown) :]
    if rest:
        total = bytes_in_words(sum(link.total for link in rest))
        lines.append(Text(f"… {count(len(rest), 'link')} more, {total}", "dim"))
    return Group(*lines)


def _link(link: LinkRow, most: int, names: int, width: int) -> Text:
    line = Text(f"{f'{link.low} ⇄ {link.high}':<{names}}", no_wrap=True)
    for sent, arrow, colour in ((link.upward, "→", "green"), (link.downward, "←", "magenta")):
        amount = "?" if sent is None else bytes_in_words(sent)
        line.append(f"  {arrow} ", "dim").append(f"{amount:>8} ")
        line.append_text(_bar((sent or 0) / most if most else 0.0, width, colour))
    return line


def _bar(share: float, width: int, colour: str) -> Text:
    """Return a bar that is filled by a share, to half a character."""
    halves = round(2 * min(1.0, max(0.0, share)) * width)
    full, half = divmod(halves, 2)
    bar = Text("━" * full + "╸" * half, colour)
    return bar.append("─" * (width - full - half), "bright_black")
