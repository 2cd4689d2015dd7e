"""FedZO (Fang et al., 2022): forward differences along several directions make a step."""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDZO: Final = Method(
    name="fedzo",
    title="FedZO",
    about="weights, after zeroth-order steps of several directions",
    source="Fang et al., 2022",
    trains=Part.ALL,
    steps=Steps.FEDZO,
    seeding=None,
    system="fedzo",
    defaults={"directions": 8},
)
