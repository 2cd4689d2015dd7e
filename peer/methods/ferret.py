"""Ferret (Shu et al., 2024): first-order local steps, projected on random bases block by block.

Follows the paper where the published program departs from it: coordinates have the scale that makes
the reconstruction unbiased (equation 8; the program's is three times too small, which its global
learning rates of 3 and 10 hide), bases are shared by no two blocks, and numbers of bases follow
Proposition 2 (the program leaves the square root out). The program clips at the receiver, which
does not add up; here a coordinate is clipped at its origin.
"""

from typing import Final

from peer.methods.method import Method, Part, Steps
from peer.seeding import BLOCKS

FERRET: Final = Method(
    name="ferret",
    title="Ferret",
    about="coordinates of an update in random bases of each block",
    source="Shu et al., 2024, equations 4 to 8",
    trains=Part.ALL,
    steps=Steps.FIRST_ORDER,
    seeding=BLOCKS,
    system="ferret",
    defaults={"learning_rate": 0.007, "local_steps": 10},
)
