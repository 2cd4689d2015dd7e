"""Which peer a process is: a number, Slurm's task, an ordinal, or the host's name."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import UserError
from peer.index import SLURM, find_index

ROSTER = ("tcp://a:5555", "tcp://b.example:5555", "tcp://localhost:5555", "ipc:///tmp/d")
LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z])?", fullmatch=True)
DOMAINS = st.lists(LABELS, max_size=3).map(lambda labels: "".join(f".{label}" for label in labels))


def index(
    rule: str, names: Sequence[str] = ("a",), roster: Sequence[str] = ROSTER, **environment: str
) -> int:
    return find_index(rule, roster, environment, names[0], lambda: names[-1])


def of_size(peers: int) -> list[str]:
    return [f"tcp://h:{port}" for port in range(1, peers + 1)]


@given(peer=st.integers(0, 400), peers=st.integers(2, 400), label=LABELS, domain=DOMAINS)
def test_a_number_its_variable_and_its_ordinal_are_the_same_place(
    peer: int, peers: int, label: str, domain: str
) -> None:
    names = (f"{label}-{peer}{domain}",)
    ways = (str(peer), {}), ("slurm", {SLURM: str(peer)}), ("ordinal", {})
    for rule, environment in ways:
        if peer < peers:
            assert index(rule, names, of_size(peers), **environment) == peer
        else:
            told = rf"is not allowed: there are peers 0 to {peers - 1}$"
            with pytest.raises(UserError, match=told):
                index(rule, names, of_size(peers), **environment)


@given(hosts=st.lists(LABELS, min_size=2, unique=True), domain=DOMAINS, data=st.data())
def test_each_host_finds_its_own_address(
    hosts: list[str], domain: str, data: st.DataObject
) -> None:
    peer = data.draw(st.integers(0, len(hosts) - 1))
    full = hosts[peer] + domain
    addresses = [f"tcp://{host}{data.draw(st.sampled_from(['', domain]))}:5" for host in hosts]
    assert index("host", (hosts[peer], full), addresses) == peer
    assert index("host", (full, full), addresses) == peer
    assert index("host", (full.upper(), full + "."), addresses) == peer


@given(rule=st.text(), names=st.lists(st.text(), min_size=1), value=st.text())
def test_whatever_is_said_leads_to_a_place_or_to_one_line(
    rule: str, names: list[str], value: str
) -> None:
    for asked in (rule, "slurm", "ordinal", "host"):
        with suppress(UserError):
            assert 0 <= index(asked, names, ROSTER, **{SLURM: value}) < len(ROSTER)


@pytest.mark.parametrize(
    ("rule", "names", "environment", "told"),
    [
        ("", ["a"], {}, "index = '' is not allowed: must be a number, slurm, ordinal or host"),
        ("-1", ["a"], {}, "index = '-1' is not allowed: must be a number"),
        ("1_0", ["a"], {}, "index = '1_0' is not allowed: must be a number"),
        ("٣", ["a"], {}, "is not allowed: must be a number"),
        ("9" * 5000, ["a"], {}, "is not allowed: must be a number"),
        ("4", ["a"], {}, "index = 4 is not allowed: there are peers 0 to 3"),
        ("slurm", ["a"], {}, "index = 'slurm' needs the variable SLURM_PROCID, which `srun`"),
        ("slurm", ["a"], {SLURM: "x"}, "index = 'slurm': SLURM_PROCID = 'x' is no number"),
        ("slurm", ["a"], {SLURM: ""}, "index = 'slurm': SLURM_PROCID = '' is no number"),
        ("slurm", ["a"], {SLURM: "4"}, "SLURM_PROCID = 4 is not allowed: there are peers 0 to 3"),
        ("ordinal", ["kseed"], {}, "the name of this host, kseed, ends with no number"),
        ("ordinal", ["kseed.v3"], {}, "the name of this host, kseed.v3, ends with no number"),
        ("ordinal", ["kseed-4"], {}, "this host, kseed-4, is not allowed: there are peers 0 to 3"),
        ("host", ["c", "c.example"], {}, "no address of the roster is at c or c.example, this"),
        ("host", ["c", "localhost"], {}, "no address of the roster is at c or localhost, this"),
        ("host", ["b", "b"], {}, "no address of the roster is at b, this host"),
        ("host", ["a", "b.example"], {}, "peers 0, 1 are all at a or b.example, this host; give"),
    ],
)
def test_what_leads_nowhere_is_told(
    rule: str, names: list[str], environment: dict[str, str], told: str
) -> None:
    with pytest.raises(UserError) as refused:
        index(rule, names, **environment)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("kseed-3", 3),
        ("kseed-3.kseed.ns.svc.cluster.local", 3),
        ("node03", 3),
        ("3", 3),
    ],
)
def test_ordinals(name: str, peer: int) -> None:
    assert index("ordinal", (name, "elsewhere-1")) == peer


def test_a_name_server_is_not_asked_without_need() -> None:
    def full_name() -> str:
        raise AssertionError

    assert find_index("2", ROSTER, {}, "a", full_name) == 2
    assert find_index("slurm", ROSTER, {SLURM: "1"}, "a", full_name) == 1
    assert find_index("ordinal", ROSTER, {}, "a-1", full_name) == 1
