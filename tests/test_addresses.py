import pytest

from peer.addresses import is_remote


@pytest.mark.parametrize(
    ("address", "remote"),
    [
        ("ipc:///tmp/a", False),
        ("tcp://127.0.0.1:5000", False),
        ("tcp://127.0.0.1:*", False),
        ("tcp://127.3.2.1:5000", False),
        ("tcp://localhost:5000", False),
        ("tcp://[::1]:5000", False),
        ("tcp://*:5000", True),
        ("tcp://0.0.0.0:5000", True),
        ("tcp://eth0:5000", True),
        ("tcp://10.0.0.7:5000", True),
        ("tcp://peer.example:5000", True),
        ("tcp://localhost.example:5000", True),
        ("tcp://128.0.0.1:5000", True),
        ("nonsense", False),
    ],
)
def test_which_addresses_are_beyond_this_machine(address: str, remote: bool) -> None:
    assert is_remote(address) is remote
