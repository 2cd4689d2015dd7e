import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from peer.errors import UserError
from peer.keys import (
    PUBLIC,
    ensure_keys,
    make_keys,
    read_public_keys,
    read_secret_keys,
    secret_name,
)
from sim.cli import main

PEERS = 3


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(PEERS, tmp_path / "keys")
    return tmp_path / "keys"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_each_peer_finds_its_own_keys_in_the_public_file(keys: Path) -> None:
    public = read_public_keys(keys, PEERS)
    secrets = [read_secret_keys(keys, peer, public) for peer in range(PEERS)]
    assert tuple(secret.public_curve for secret in secrets) == public.curve
    assert tuple(secret.public_ed25519 for secret in secrets) == public.ed25519
    every = {*public.curve, *public.ed25519}
    every |= {key for secret in secrets for key in (secret.curve, secret.ed25519)}
    assert len(every) == 4 * PEERS
    assert {len(key) for key in every} == {32}


def test_curve_keys_are_those_that_libzmq_would_make(keys: Path) -> None:
    secret = read_secret_keys(keys, 0, read_public_keys(keys, PEERS))
    in_z85 = zmq.curve_public(z85.encode(secret.curve))
    assert z85.decode(in_z85) == secret.public_curve


def test_secrets_are_for_their_owner_and_in_no_other_file(keys: Path) -> None:
    assert {path.name for path in keys.iterdir()} == {PUBLIC, *map(secret_name, range(PEERS))}
    public = (keys / PUBLIC).read_text()
    for peer in range(PEERS):
        path = keys / secret_name(peer)
        assert path.stat().st_mode & 0o777 == 0o600
        digits = re.findall("[0-9a-f]{64}", path.read_text())
        assert len(digits) == 2
        assert not any(key in public for key in digits)


def test_secrets_do_not_show_in_a_traceback(keys: Path) -> None:
    secret = read_secret_keys(keys, 0, read_public_keys(keys, PEERS))
    assert secret.curve.hex() not in repr(secret)
    assert repr(secret.curve) not in repr(secret)


@pytest.mark.parametrize("there", [PUBLIC, secret_name(2)])
def test_keys_are_never_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(UserError, match="is there already, and keys are never overwritten"):
        make_keys(PEERS, tmp_path)
    assert contents(tmp_path) == {there: "precious"}


def test_keys_of_an_earlier_life_are_kept(tmp_path: Path) -> None:
    ensure_keys(PEERS, tmp_path)
    before = contents(tmp_path)
    ensure_keys(PEERS, tmp_path)
    assert contents(tmp_path) == before
    with pytest.raises(UserError, match="for each of 4 peers"):
        ensure_keys(4, tmp_path)


def test_keys_whose_making_was_interrupted_are_made_anew(tmp_path: Path) -> None:
    make_keys(PEERS, tmp_path)
    (tmp_path / PUBLIC).unlink()
    (tmp_path / secret_name(2)).unlink()
    ensure_keys(PEERS, tmp_path)
    public = read_public_keys(tmp_path, PEERS)
    for peer in range(PEERS):
        read_secret_keys(tmp_path, peer, public)


@pytest.mark.skipif(os.name != "posix", reason="modes of files as POSIX has them")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_secrets_that_others_can_reach_are_refused(keys: Path, mode: int) -> None:
    (keys / secret_name(1)).chmod(mode)
    public = read_public_keys(keys, PEERS)
    with pytest.raises(UserError, match=r"peer-1.secret.toml is open to others"):
        read_secret_keys(keys, 1, public)


def test_another_peers_secrets_are_refused(keys: Path) -> None:
    public = read_public_keys(keys, PEERS)
    (keys / secret_name(2)).replace(keys / secret_name(0))
    with pytest.raises(UserError, match=r"holds other keys than those of peer 0"):
        read_secret_keys(keys, 0, public)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: "", "[[peer]]"),
        (lambda text: text + '[[peer]]\ncurve = ""\n', "[[peer]]"),
        (lambda text: text[: len(text) // 2], "no TOML file"),
        (lambda text: text.replace("[[peer]] # 1", "[[more]]"), "[[peer]]"),
        (lambda _: "peer = [1, 2, 3]", "keys of peer 0 must be curve and ed25519"),
        (lambda text: text.replace("curve", "cruve", 1), "keys of peer 0 must be"),
        (lambda text: text + "name = 3\n", "keys of peer 2 must be"),
        (lambda text: text.replace('curve = "', 'curve = "0', 1), "curve of peer 0 is not a key"),
        (lambda text: text.replace('curve = "', 'curve = "00', 1), "curve of peer 0 is not a key"),
        (lambda text: re.sub('"(..)(.*)"', r'"  \2"', text), "curve of peer 0 is not a key"),
        (lambda text: re.sub('"(..)(.*)"', r'"xx\2"', text), "curve of peer 0 is not a key"),
        (lambda text: re.sub('".*"', "7", text), "curve of peer 0 is not a key"),
        (lambda text: re.sub('curve = ".*"', f'curve = "{64 * "0"}"', text), "peers 0 and 1 share"),
        (lambda text: re.sub('ed25519 = ".*"', f'ed25519 = "{64 * "0"}"', text), "ed25519 key"),
    ],
)
def test_a_malformed_public_file_is_told_in_one_line(
    keys: Path, change: Callable[[str], str], told: str
) -> None:
    path = keys / PUBLIC
    path.write_text(change(path.read_text()))
    line = refusal(lambda: read_public_keys(keys, PEERS))
    assert told in line
    assert line.startswith(str(path))


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda text: text[:-1] + "0",
        lambda text: text.replace("curve", "cruve"),
        lambda text: text + "peer = 0\n",
        lambda text: text.replace('"', '"0', 1),
    ],
)
def test_a_malformed_secret_file_is_told_without_its_secrets(
    keys: Path, change: Callable[[str], str]
) -> None:
    path = keys / secret_name(0)
    digits = tomllib.loads(path.read_text()).values()
    path.write_text(change(path.read_text()))
    public = read_public_keys(keys, PEERS)
    line = refusal(lambda: read_secret_keys(keys, 0, public))
    assert line.startswith(str(path))
    assert not any(key[:16] in line for key in digits)


def test_files_that_are_not_there_are_told(tmp_path: Path, keys: Path) -> None:
    public = read_public_keys(keys, PEERS)
    assert refusal(lambda: read_public_keys(tmp_path, 3)).startswith(f"cannot read {tmp_path}")
    assert "peer-0" in refusal(lambda: read_secret_keys(tmp_path, 0, public))
    (tmp_path / "file").touch()
    assert "cannot write keys" in refusal(lambda: make_keys(2, tmp_path / "file"))


def test_the_command_makes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "2", "--to", str(tmp_path / "new")]) == 0
    assert "public.toml" in capsys.readouterr().out
    before = contents(tmp_path / "new")
    assert set(before) == {PUBLIC, secret_name(0), secret_name(1)}
    assert main(["keys", "2", "--to", str(tmp_path / "new")]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert contents(tmp_path / "new") == before


@pytest.mark.parametrize("number", ["0", "1", "-3", "two", "1_0", "300000"])
def test_the_command_refuses_other_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    assert main(["keys", number, "--to", str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()
