"""FedMeZO: FedAvg with the steps of MeZO (Malladi et al., 2023), as Ferret's C.1 compares with."""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDMEZO: Final = Method(
    name="fedmezo",
    title="FedMeZO",
    about="weights, after zeroth-order steps in place",
    source="Malladi et al., 2023; Shu et al., 2024, C.1",
    trains=Part.ALL,
    steps=Steps.MEZO,
    seeding=None,
    system="fedmezo",
)
