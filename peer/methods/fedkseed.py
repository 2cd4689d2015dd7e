"""FedKSeed (Qin et al., ICML 2024): a peer's steps are scalar gradients along K candidate seeds.

The published program rebuilds in half precision, adding K updates one by one, so most of the small
ones are lost; here sums are exact and so is the rebuild. Everything else follows Algorithm 1.
"""

from typing import Final

from peer.methods.method import Method, Part, Steps
from peer.seeding import UNIFORM

FEDKSEED: Final = Method(
    name="fedkseed",
    title="FedKSeed",
    about="scalar gradients along K candidate seeds",
    source="Qin et al., 2024, algorithm 1",
    trains=Part.ALL,
    steps=Steps.KSEED,
    seeding=UNIFORM,
    system="fedkseed",
)
