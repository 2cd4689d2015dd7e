"""FedIT (Zhang et al., 2023): LoRA factors, trained by Adam and averaged."""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDIT: Final = Method(
    name="fedit",
    title="FedIT",
    about="LoRA factors, trained by Adam",
    source="Zhang et al., 2023",
    trains=Part.LORA,
    steps=Steps.FIRST_ORDER,
    seeding=None,
    system="fedit",
    defaults={"optimizer": "adam", "learning_rate": 0.003},
)
