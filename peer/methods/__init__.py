"""The methods that a run can tune a model by, each in a file of its own."""

from collections.abc import Mapping
from typing import Final

from peer.methods.fedavg import FEDAVG
from peer.methods.fedit import FEDIT
from peer.methods.fedit_sgd import FEDIT_SGD
from peer.methods.fedkseed import FEDKSEED
from peer.methods.fedkseed_infinite import FEDKSEED_INFINITE
from peer.methods.fedkseed_pro import FEDKSEED_PRO
from peer.methods.fedmezo import FEDMEZO
from peer.methods.fedprompt import FEDPROMPT
from peer.methods.fedptuning import FEDPTUNING
from peer.methods.fedzo import FEDZO
from peer.methods.ferret import FERRET
from peer.methods.method import Method, Part, Steps

__all__ = ["METHODS", "Method", "Part", "Steps"]

METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (
        FEDKSEED,
        FEDKSEED_PRO,
        FEDKSEED_INFINITE,
        FERRET,
        FEDAVG,
        FEDZO,
        FEDMEZO,
        FEDIT,
        FEDIT_SGD,
        FEDPTUNING,
        FEDPROMPT,
    )
}
"""All of them by name, in the order of the papers."""
