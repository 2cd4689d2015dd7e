import pytest

from peer.addresses import is_local


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("ipc:///tmp/a", True),
        ("tcp://127.0.0.1:5000", True),
        ("tcp://127.0.0.1:*", True),
        ("tcp://127.3.2.1:5000", True),
        ("tcp://localhost:5000", True),
        ("tcp://[::1]:5000", True),
        ("tcp://*:5000", False),
        ("tcp://0.0.0.0:5000", False),
        ("tcp://eth0:5000", False),
        ("tcp://10.0.0.7:5000", False),
        ("tcp://peer.example:5000", False),
        ("tcp://localhost.example:5000", False),
        ("tcp://128.0.0.1:5000", False),
        ("nonsense", False),
    ],
)
def test_which_addresses_are_this_machines(address: str, local: bool) -> None:
    assert is_local(address) is local
