"""The roster file: written, read again, and refused in one line whatever is wrong with it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import UserError
from peer.keys import PublicKeys
from peer.roster_file import RosterFile, read_roster

HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{1,5})?", fullmatch=True)
PORTS = st.integers(1, 65535)
PLACES = st.builds("{}:{}".format, HOSTS, PORTS)
KEYS = st.binary(min_size=32, max_size=32)


@st.composite
def rosters(draw: st.DrawFn) -> RosterFile:
    peers = draw(st.integers(2, 5))
    places = draw(st.lists(PLACES, min_size=peers, max_size=peers, unique=True))
    watched = draw(st.lists(PLACES, min_size=peers, max_size=peers, unique=True))
    shown = draw(st.lists(st.booleans(), min_size=peers, max_size=peers))
    keys = draw(st.lists(KEYS, min_size=2 * peers, max_size=2 * peers, unique=True))
    return RosterFile(
        tuple(f"tcp://{place}" for place in places),
        tuple(place if show else "" for place, show in zip(watched, shown, strict=True)),
        PublicKeys(tuple(keys[:peers]), tuple(keys[peers:])),
    )


ROSTER = RosterFile(
    ("tcp://a:5555", "tcp://b.example:5555", "tcp://10.0.0.7:5556"),
    ("a:9464", "", "10.0.0.7:9464"),
    PublicKeys(
        (b"\1" * 32, b"\2" * 32, b"\3" * 32),
        (b"\4" * 32, b"\5" * 32, b"\6" * 32),
    ),
)
TEXT = f"""\
# The peers of a network, in the order of their places: the same for every host.

[[peer]] # 0
address = "tcp://a:5555"
metrics = "a:9464"
curve = "{32 * "01"}"
ed25519 = "{32 * "04"}"

[[peer]] # 1
address = "tcp://b.example:5555"
curve = "{32 * "02"}"
ed25519 = "{32 * "05"}"

[[peer]] # 2
address = "tcp://10.0.0.7:5556"
metrics = "10.0.0.7:9464"
curve = "{32 * "03"}"
ed25519 = "{32 * "06"}"
"""


@given(rosters())
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, roster: RosterFile
) -> None:
    path = tmp_path_factory.mktemp("roster") / "roster.toml"
    path.write_text(roster.text())
    assert read_roster(path) == roster


def test_the_format_is_this_one(tmp_path: Path) -> None:
    assert ROSTER.text() == TEXT
    assert ROSTER.digest.hex() == "a2f9c75b7aa915b9"
    (tmp_path / "roster.toml").write_text(TEXT)
    assert read_roster(tmp_path / "roster.toml") == ROSTER


def test_the_digest_is_over_what_must_be_equal() -> None:
    assert ROSTER.keys is not None
    elsewhere = RosterFile(("tcp://c:1", *ROSTER.addresses[1:]), ROSTER.metrics, ROSTER.keys)
    other_curve = PublicKeys((b"\7" * 32, *ROSTER.keys.curve[1:]), ROSTER.keys.ed25519)
    other_signing = PublicKeys(ROSTER.keys.curve, (b"\7" * 32, *ROSTER.keys.ed25519[1:]))
    others = [
        elsewhere,
        RosterFile(ROSTER.addresses, ROSTER.metrics, None),
        RosterFile(ROSTER.addresses, ROSTER.metrics, other_curve),
        RosterFile(ROSTER.addresses, ROSTER.metrics, other_signing),
        RosterFile(ROSTER.addresses[::-1], ROSTER.metrics, ROSTER.keys),
    ]
    assert len({roster.digest for roster in [ROSTER, *others]}) == 6
    unwatched = RosterFile(ROSTER.addresses, ("", "", ""), ROSTER.keys)
    assert unwatched.digest == ROSTER.digest


def test_on_one_machine_keys_are_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "roster.toml"
    addresses = ("tcp://127.0.0.1:5555", "tcp://localhost:5556", "ipc:///tmp/peer")
    path.write_text(RosterFile(addresses, ("", "", "")).text())
    assert read_roster(path) == RosterFile(addresses, ("", "", ""))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: "", "holds 0 tables [[peer]]: at least 2 are wanted"),
        (lambda text: text[: text.index("[[peer]] # 1")], "holds 1 tables [[peer]]: at least 2"),
        (lambda text: text[: len(text) // 2], "is no TOML file"),
        (lambda text: "peers = 3\n" + text, "peers is no key of a roster, which has [[peer]]"),
        (lambda _: "peer = 3", "does not hold a table [[peer]] for each peer"),
        (lambda _: "peer = [1, 2]", "does not hold a table [[peer]] for each peer"),
        (
            lambda text: text.replace("address", "adress", 1),
            "adress of peer 0 is no key of a roster: it has address, metrics, curve, ed25519",
        ),
        (
            lambda text: text.replace('address = "tcp://a:5555"', ""),
            "peer 0 has no address, or one that is no text",
        ),
        (lambda text: text.replace('"tcp://a:5555"', "5555"), "peer 0 has no address"),
        (
            lambda text: text.replace("tcp://a:5555", "a:5555"),
            "address = 'a:5555' of peer 0: an address is tcp://host:port or ipc://path",
        ),
        (lambda text: text.replace("a:5555", "a:*"), "others reach a peer at tcp://host:port"),
        (lambda text: text.replace("a:5555", "a:0"), "others reach a peer at tcp://host:port"),
        (lambda text: text.replace("a:5555", "a:65536"), "others reach a peer at tcp://"),
        (lambda text: text.replace("a:5555", "*:5555"), "others reach a peer at tcp://"),
        (lambda text: text.replace("a:5555", "0.0.0.0:5"), "others reach a peer at tcp://"),
        (lambda text: text.replace("a:5555", "[::1]:5555"), "by name or IPv4"),
        (
            lambda text: text.replace("b.example:5555", "A:5555"),
            "peers 0 and 1 have one address, tcp://A:5555",
        ),
        (
            lambda text: text.replace("10.0.0.7:9464", "a:9464"),
            "peers 0 and 2 have one metrics address, a:9464",
        ),
        (lambda text: text.replace("a:9464", "9464"), "metrics = '9464' of peer 0: must be"),
        (lambda text: text.replace('"a:9464"', "9464"), "metrics = 9464 of peer 0: must be"),
        (
            lambda text: re.sub('curve = "(01)+"\n', "", text),
            "the keys of peer 0 must be curve and ed25519",
        ),
        (
            lambda text: re.sub('(curve|ed25519) = "(0[25])+"\n', "", text),
            "the keys of peer 1 must be curve and ed25519",
        ),
        (
            lambda text: re.sub('(curve|ed25519) = ".*"\n', "", text),
            "tcp://a:5555 is beyond this machine, so all peers need keys",
        ),
        (lambda text: text.replace("0101", "01", 1), "curve of peer 0 is not a key of 64"),
        (lambda text: text.replace("02", "01"), "peers 0 and 1 share their curve key"),
        (lambda text: text.replace("06", "04"), "peers 0 and 2 share their ed25519 key"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, change: Callable[[str], str], told: str
) -> None:
    path = tmp_path / "roster.toml"
    path.write_text(change(TEXT))
    with pytest.raises(UserError) as refused:
        read_roster(path)
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    assert told in line


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/roster.toml: No such file"):
        read_roster(tmp_path / "roster.toml")
