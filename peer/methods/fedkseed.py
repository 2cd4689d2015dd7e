"""FedKSeed (Qin et al., ICML 2024): a peer's steps are scalar gradients along K candidate seeds.

The published program skips the round's weights when it rebuilds in half precision, and adds K
updates one by one; here sums are exact and so is the rebuild. Everything else follows Algorithm 1.
"""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDKSEED: Final = Method(
    name="fedkseed",
    title="FedKSeed",
    about="scalar gradients along K candidate seeds",
    source="Qin et al., 2024, algorithm 1",
    trains=Part.ALL,
    steps=Steps.KSEED,
    seeding="uniform",
    system="fedkseed",
)
