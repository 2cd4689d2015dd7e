"""Whether the Hugging Face hub can be reached, found out once and quickly.

Left to themselves its libraries ask again and again for half a minute, with a warning each time.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import Final

SECONDS: Final = 5.0
"""How long the hub may take to answer."""


@cache
def ready_hub() -> None:
    """Have the hub's libraries take what they have on disk alone, where the hub does not answer."""
    from huggingface_hub import constants, get_session

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if constants.HF_HUB_OFFLINE:
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    # Name, route, proxy, certificate: whatever stands between.
    except Exception:
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
