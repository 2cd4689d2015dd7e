"""FedIT-SGD: FedIT with SGD in Adam's place (Qin et al., 2024, section 5.1.1)."""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDIT_SGD: Final = Method(
    name="fedit-sgd",
    title="FedIT-SGD",
    about="LoRA factors, trained by SGD",
    source="Qin et al., 2024, section 5.1.1",
    trains=Part.LORA,
    steps=Steps.FIRST_ORDER,
    seeding=None,
    system="fedit-sgd",
    defaults={"learning_rate": 0.05},
)
