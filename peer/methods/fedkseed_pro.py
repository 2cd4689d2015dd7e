"""FedKSeed-Pro (Qin et al., ICML 2024): seeds are drawn by how large their gradients were.

Where paper and published program differ, the paper is followed: see `peer.importance`.
"""

from typing import Final

from peer.methods.method import Method, Part, Steps
from peer.seeding import WEIGHTED

FEDKSEED_PRO: Final = Method(
    name="fedkseed-pro",
    title="FedKSeed-Pro",
    about="scalar gradients and the seeds, drawn by importance",
    source="Qin et al., 2024, section 3.4",
    trains=Part.ALL,
    steps=Steps.KSEED,
    seeding=WEIGHTED,
    system="fedkseed-pro",
)
