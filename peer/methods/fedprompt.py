"""FedPrompt (Kuang et al., 2023): the embeddings of a soft prompt, trained by SGD and averaged."""

from typing import Final

from peer.methods.method import Method, Part, Steps

FEDPROMPT: Final = Method(
    name="fedprompt",
    title="FedPrompt",
    about="a soft prompt, trained by SGD",
    source="Kuang et al., 2023; Lester et al., 2021",
    trains=Part.SOFT_PROMPT,
    steps=Steps.FIRST_ORDER,
    seeding=None,
    system="fedprompt",
    defaults={"learning_rate": 1.0},
)
