"""FedAvg (McMahan et al., 2017), and without a server D-PSGD (Lian et al., 2017)."""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDAVG: Final = Method(
    name="fedavg",
    title="FedAvg",
    about="weights, after steps by backpropagation",
    source="McMahan et al., 2017; without a server: Lian et al., 2017",
    trains=Part.ALL,
    steps=Steps.FIRST_ORDER,
    seeding=None,
    system="fedavg",
    defaults={"learning_rate": 0.02},
)
