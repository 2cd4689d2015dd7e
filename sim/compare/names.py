"""What the field calls the methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sim.compare.definition import Contender

_NAMES: Final[Mapping[str, str]] = {
    "fedkseed": "FedKSeed",
    "fedkseed-pro": "FedKSeed-Pro",
    "fedkseed-infinite": "FedKSeed (K → ∞)",
    "ferret": "Ferret",
    "fedavg": "FedAvg",
    "fedzo": "FedZO",
    "fedmezo": "FedMeZO",
    "fedit": "FedIT",
    "fedit-sgd": "FedIT-SGD",
    "fedptuning": "FedPTuning",
    "fedprompt": "FedPrompt",
}


def method_name(method: str) -> str:
    """Return a method's name as papers print it; one that they do not know keeps its own."""
    return _NAMES.get(method, method)


def contender_name(contender: Contender) -> str:
    """Return the name of a method, and whether it has a server."""
    name = method_name(contender.method)
    return f"{name}, server" if contender.with_server else name
