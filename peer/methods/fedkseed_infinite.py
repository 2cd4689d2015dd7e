"""Zeroth-order tuning without a pool of seeds: the model is a replay of every step of the run.

This is what FedKSeed's pool of K seeds replaces. The accumulator has one sum for each step, nothing
can be folded away, and a rebuild gets longer with every round.
"""

from typing import Final

from peer.methods.method import Method, Part, Steps
from peer.seeding import ENDLESS

FEDKSEED_INFINITE: Final = Method(
    name="fedkseed-infinite",
    title="infinite seeds",
    about="scalar gradients, each with a seed of its own",
    source="Zelikman et al., 2023; Qin et al., 2024, section 3.1",
    trains=Part.ALL,
    steps=Steps.KSEED,
    seeding=ENDLESS,
    system="infinite-seeds",
)
