"""Values that options may have, where they are few or have a name elsewhere too."""

from __future__ import annotations

from typing import Final

BUILTIN: Final = "builtin"
"""The model, and the data, that come with this program."""

TRAINERS: Final = ("zeroth-order", "synthetic")
PERTURBATIONS: Final = ("gaussian", "rademacher")
PARTITIONS: Final = ("iid", "dirichlet", "by-category", "by-task")
LONG_ROWS: Final = ("cut", "drop")
DEVICES: Final = ("auto", "cpu", "cuda")
WEIGHT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one weight, by its type."""

DTYPES: Final = tuple(WEIGHT_BYTES)
LATENCY_PER: Final = ("link", "frame")
CURVE: Final = ("auto", "on", "off")
ISOLATIONS: Final = ("none", "netns")
LOCAL: Final = "local"
RAY: Final = "ray"
COMPUTERS: Final = (LOCAL, RAY)
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
