"""FedPTuning (Kuang et al., 2023): P-tuning's prompt encoder, trained by SGD and averaged."""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDPTUNING: Final = Method(
    name="fedptuning",
    title="FedPTuning",
    about="a prompt encoder, trained by SGD",
    source="Kuang et al., 2023; Liu et al., 2023",
    trains=Part.PROMPT_ENCODER,
    steps=Steps.FIRST_ORDER,
    seeding=None,
    system="fedptuning",
    defaults={"learning_rate": 0.1},
)
