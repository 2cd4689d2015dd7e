"""What `sim.volume.spread` tells, for people to read."""

from __future__ import annotations

from sim.volume.calm import UNDISTURBED, Verdict
from sim.volume.loads import Loads
from sim.volume.spread import SpreadVolume
from sim.words import bytes_in_words


def in_words(volume: SpreadVolume, verdict: Verdict = UNDISTURBED, *, alike: bool = True) -> str:
    """Return lines that say all of it, and which of it is exact.

    Args:
        volume: what to say.
        verdict: on the run that is meant.
        alike: whether all its links take the same time.
    """
    how = "flooded" if volume.gossip == "flood" else "pushed along trees"
    lines = [
        f"{volume.entries:,} entries {how} over {volume.topology}, {volume.peers:,} peers, "
        f"{volume.links:,} links",
        f"  sends      {volume.sends_per_entry:,} an entry, {volume.sends:,} in all, "
        f"{volume.redundancy:.2f} times the fewest possible",
        f"  payload    {bytes_in_words(volume.payload_bytes)} in all "
        f"({volume.payload_bytes:,} bytes)",
        f"  a peer     {bytes_in_words(volume.peer_bytes_mean)} sent and received, on average",
        f"  a link     {bytes_in_words(volume.link_bytes_mean)} each way, on average",
    ]
    if volume.extrapolated:
        note = "An extrapolation: no graph of this size was made. Sends follow from the number of "
        note += "links; hops, and how loads differ, are left out."
        return "\n".join([*lines, note if verdict.exact else f"{note} {_not_so(verdict)}"])
    assert volume.peer_bytes is not None
    assert volume.link_bytes is not None
    lines += [
        f"  last peer  after {_with_error(volume.last_hops_mean, volume.last_hops_error)} hops, "
        f"at most {volume.last_hops_max}{_but_for(volume)}; "
        f"any peer after {_with_error(volume.hops_mean, volume.hops_error)}",
        f"  peers      {_in_words(volume.peer_bytes)}",
        f"  links      {_in_words(volume.link_bytes)}",
    ]
    if volume.exact:
        note = "All of this is exact, for links that are alike and lose nothing."
        if not (verdict.exact and alike):
            note = "All of this is for links that are alike and quick, and lose nothing."
    else:
        known = "exact" if verdict.exact else "closed forms"
        note = f"Sends, payload and averages of loads are {known}; the rest is from "
        note += f"{volume.walked:,} of {volume.origins:,} origins, with its standard error."
    return "\n".join([*lines, note if verdict.exact else f"{note} {_not_so(verdict)}"])


def _not_so(verdict: Verdict) -> str:
    return f"This run may send something else: {verdict.why}."


def _but_for(volume: SpreadVolume) -> str:
    above = volume.last_hops_above
    return f" for all but {above:.0%} of the entries (95% confidence)" if above else ""


def _with_error(value: float | None, error: float | None) -> str:
    return f"{value:.2f} ± {error:.2f}" if error else f"{value:.2f}"


def _in_words(loads: Loads) -> str:
    text = f"5% below {bytes_in_words(loads.low)}, half below {bytes_in_words(loads.median)}, "
    text += f"5% above {bytes_in_words(loads.high)}, the most {bytes_in_words(loads.most)}"
    if not loads.error:
        return text
    return (
        f"{text} ± {bytes_in_words(loads.most_error)}; "
        f"a single one is known to ± {bytes_in_words(loads.error)}"
    )
