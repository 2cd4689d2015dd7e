"""One peer: the pure protocol, the numerics, and the doors to the world."""
