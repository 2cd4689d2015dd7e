"""The papers' tables of overheads beside ours: what they print, what the formulas give, and why.

What a paper measured on its own machines is printed as theirs alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from peer.adapter_size import lora, prompt_encoder, soft_prompt
from peer.errors import UserError
from peer.model_size import SHAPES, ModelSize, model_size
from sim.volume.costs import SCALAR, Server
from sim.volume.printed import figure, like
from sim.volume.setting import Setting
from sim.volume.systems import find_system


@dataclass(frozen=True)
class PaperTable:
    """A paper's table beside ours.

    Attributes:
        name: by which it is asked for.
        title: what it is.
        rows: one for each printed figure; see `sim.volume.printed`.
        notes: on the table as a whole.
    """

    name: str
    title: str
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def paper_table(name: str) -> PaperTable:
    """Return a paper's table beside ours.

    Raises:
        UserError: there is no such table here; names those there are.
    """
    plain = name.strip().casefold()
    if plain in PAPERS:
        return PAPERS[plain]()
    near = difflib.get_close_matches(plain, PAPERS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"paper = {name!r}: {hint}there are {', '.join(PAPERS)}")


def _setting(
    model: ModelSize, seeds: int, *, weight_bytes: int, rounds: int, active: int
) -> Setting:
    """Return FedKSeed's setting on Natural Instructions (sections 5.1.3 and 5.1.4): 738 clients."""
    return Setting(
        model=model,
        peers=738,
        active=active,
        rounds=rounds,
        local_steps=200,
        candidate_seeds=seeds,
        edges=738,
        weight_bytes=weight_bytes,
    )


def _sent(name: str, setting: Setting) -> int:
    """Return the bytes that an active client sends and gets in a round."""
    server = find_system(name).costs(setting).server
    assert isinstance(server, Server)
    assert server.up is not None
    assert server.down is not None
    return int(server.up + server.down)


_KSEED_MODELS: Final = {"DataJuicer-1.3B": "datajuicer-1.3b", "LLaMA-3B": "llama-3b"}
_KSEED_TABLE: Final = {
    "DataJuicer-1.3B": {
        "FedPTuning": ("12.63 M", "96.36 MB", "11.89 GB", "0.0582"),
        "FedPrompt": ("40.96 K", "320.0 KB", "11.82 GB", "0.0589"),
        "FedIT-SGD": ("1.57 M", "12.00 MB", "12.41 GB", "0.0746"),
        "FedIT": ("1.57 M", "12.00 MB", "12.43 GB", "0.0756"),
        "FedKSeed": ("1.35 B", "17,988 Bytes", "3.52 GB", "0.1479"),
        "FedKSeed-Pro": ("1.35 B", "9,796 Bytes", "3.52 GB", "0.1461"),
    },
    "LLaMA-3B": {
        "FedPTuning": ("30.79 M", "234.94 MB", "16.31 GB", "0.0690"),
        "FedPrompt": ("64.00 K", "500.0 KB", "19.01 GB", "0.0683"),
        "FedIT-SGD": ("2.66 M", "20.31 MB", "18.17 GB", "0.0841"),
        "FedIT": ("2.66 M", "20.31 MB", "18.33 GB", "0.0848"),
        "FedKSeed": ("3.43 B", "17,988 Bytes", "7.78 GB", "0.3451"),
        "FedKSeed-Pro": ("3.43 B", "17,988 Bytes", "7.78 GB", "0.3448"),
    },
}
_KSEED_SEEDS: Final = {"DataJuicer-1.3B": 1024, "LLaMA-3B": 2048}
"""FedKSeed-Pro's K (section 5.1.4); FedKSeed's is 4096."""


def _fedkseed_table3() -> PaperTable:
    rows = [
        row
        for model, approaches in _KSEED_TABLE.items()
        for approach, printed in approaches.items()
        for row in _kseed_rows(model, approach, printed)
    ]
    return PaperTable(
        "fedkseed-table3",
        "FedKSeed, Table 3: trainable parameters, and communication of a client in a round",
        tuple(rows),
        (
            "Setting: Natural Instructions, tau = 200, K = 4096; FedKSeed-Pro K = 1024 (1.3B) and "
            "2048 (3B); LoRA of rank 8, 20 virtual tokens. Up and down together.",
            "Its MB are 2^20 bytes and its KB 2^10, while its K, M and B of parameters are powers "
            "of 1000. Numbers are counted as 4 bytes, though the models are loaded in 16 bits.",
            "A history's seed is counted as 4 bytes, too few for the seeds that it draws from "
            "[0, 1e11); the index of one would fit.",
            "GPU memory and seconds a step are the paper's measurements: theirs, none of ours.",
        ),
    )


def _kseed_rows(
    model: str, approach: str, printed: tuple[str, str, str, str]
) -> Iterator[dict[str, Any]]:
    size = model_size(_KSEED_MODELS[model])
    shape = SHAPES[size.name]
    trained = {
        "FedPTuning": prompt_encoder(shape),
        "FedPrompt": soft_prompt(shape),
        "FedIT-SGD": lora(shape),
        "FedIT": lora(shape),
        "FedKSeed": size.parameters,
        "FedKSeed-Pro": size.parameters,
    }
    seeds = _KSEED_SEEDS[model] if approach == "FedKSeed-Pro" else 4096
    setting = _setting(size, seeds, weight_bytes=4, rounds=40, active=37)
    parameters, communication, memory, seconds = printed
    yield figure(approach, model, "trainable parameters", parameters, trained[approach])
    sent = _sent(approach.casefold(), setting)
    yield figure(approach, model, "communication", communication, sent)
    yield figure(approach, model, "GPU memory", memory, None)
    yield figure(approach, model, "seconds a step", seconds, None)


_FERRET_MODEL: Final = "LLaMA-3B"
_ROUND_MODEL: Final = ModelSize("LLaMA-3B as 3.0e9", 3 * 10**9)
_FERRET_TIMES: Final = {
    "FedZO": ("58.1", "4.8", "2.5e3"),
    "FedKSeed": ("24.5", "723.8", "3.0e4"),
    "FedAvg": ("2.3", "4.8", "85.2"),
    "Ferret": ("5.6", "49.1", "6.6e2"),
}


def _ferret_table3() -> PaperTable:
    seeds = 4096
    # A client that takes part in every round, as C.2 counts, and 16 bits for a number.
    halves = {"weight_bytes": 2, "rounds": 40, "active": 738}
    rounded = _setting(_ROUND_MODEL, seeds, **halves)
    real = _setting(model_size("llama-3b"), seeds, **halves)
    weights, real_weights = _sent("fedavg", rounded) // 2, _sent("fedavg", real) // 2
    sums = 2 * seeds
    own = _sent("fedkseed", real) // SCALAR
    coordinates = _sent("ferret", real) // 2
    three = (
        f"counts LLaMA-3B as 3.0e9 parameters; its tensors have {real.model.parameters:,}, and "
        f"twice that is {like('6.0e9', real_weights)}"
    )
    both_ways = (
        f"2 K = {sums:,} counts K numbers each way; FedKSeed sends a history of 200 pairs up, K "
        f"sums and a seed down: {own:,} numbers of 4 bytes"
    )
    cut = (
        f"40 x {sums:,} = {40 * sums:,} rounds to 3.3e5, as 40 times anything that rounds to "
        "8.2e3 does: cut to 3.2e5, or computed from 8.0e3"
    )
    basis = (
        f"sum K_l is nowhere in the paper (Figure 5 calls it 2 K_0 and gives no K_0): "
        f"{coordinates // 2:,} is read back from this figure and "
        "the next; 194 blocks of 20 would be 3,880, and 9.3e4 in the whole run"
    )
    twelve = f"R = 12, as C.2 says, where FedKSeed's setting has 40: {like('2.4e11', 40 * weights)}"
    figures = {
        "FedZO": (
            ("6.0e9", weights, real_weights, three),
            ("2.4e11", 40 * weights, 40 * real_weights, "R = 40; " + three),
        ),
        "FedKSeed": (
            ("8.2e3", sums, own, both_ways),
            ("3.2e5", 40 * sums, 40 * own, cut),
        ),
        "FedAvg": (
            ("6.0e9", weights, real_weights, three),
            ("7.2e10", 12 * weights, 12 * real_weights, twelve),
        ),
        "Ferret": (
            ("7.8e3", coordinates, None, basis),
            ("9.4e4", 12 * coordinates, None, "R = 12; from 7.8e3 as read back"),
        ),
    }
    rows = []
    for approach, pair in figures.items():
        for quantity, (printed, count, exact, note) in zip(
            ("numbers a round", "numbers a run"), pair, strict=True
        ):
            rounding = "cut" if printed == "3.2e5" else "half up"
            rows.append(
                figure(
                    approach,
                    _FERRET_MODEL,
                    quantity,
                    printed,
                    count,
                    exact=exact,
                    rounding=rounding,
                    note=note,
                )
            )
        for quantity, printed in zip(
            ("local update, s", "global aggregation, s", "overall, s"),
            _FERRET_TIMES[approach],
            strict=True,
        ):
            rows.append(figure(approach, _FERRET_MODEL, quantity, printed, None))
    return PaperTable(
        "ferret-table3",
        "Ferret, Table 3: numbers that a client and the server exchange, on LLaMA-3B",
        tuple(rows),
        (
            "Setting: Natural Instructions, K = 4096 for FedKSeed, 16 bits a number, sent and "
            "received together; R = 40 for FedZO and FedKSeed, 12 for FedAvg and Ferret (C.2).",
            "The whole run is R times a round. C.2 prints 2 x Per-Round x R, twice that: its "
            "figures a round hold both ways already.",
            "Seconds are the paper's measurements: theirs, none of ours. Overall is R times the "
            "sum of the other two, to the printed digits.",
        ),
    )


PAPERS: Final[dict[str, Callable[[], PaperTable]]] = {
    "fedkseed-table3": _fedkseed_table3,
    "ferret-table3": _ferret_table3,
}
"""The tables there are."""
