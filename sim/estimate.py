"""What a run would cost in time, bytes and memory, before it starts (`--dry-run`).

Payload is exact where nothing disturbs the run: the size of every entry, and of weights, is known,
and so is how often they are sent. Control traffic is what the simulator counts, within 5% in 96 of
100 random settings and at most 19% off (`sim.volume.timers`), and a guess for real processes, whose
ticks follow the clock, and where links are disturbed or slow. Time is scaled up from a few local
steps, a piece of a rebuild, a few rows of evaluation and a few answers, measured here and now.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.config import Experiment
from peer.corpus import Corpus
from peer.measures import is_due, questions_of
from peer.methods import METHODS
from peer.setup import Prepared, prepare
from peer.summary import peak_memory
from peer.trainer import Announced, Trainer
from peer.training import build_trainer
from peer.tuned_model import TunedModel
from peer.weights import Weights
from peer.work import steps_per_round
from sim.room import held_bytes
from sim.volume.prediction import predict_run
from sim.words import bytes_in_words, seconds_in_words

if TYPE_CHECKING:
    from peer.global_model import GlobalModel

_STEPS: Final = 3
_EVALUATION_ROWS: Final = 20
_REBUILD_WEIGHTS: Final = 2**20
_ANSWERS: Final = 16
_NO_WORKERS: Final = (
    "That is without the cluster, which was not asked: its workers share the local steps, and each "
    "has such a memory."
)


def estimate(experiment: Experiment, engine: str) -> dict[str, Any]:
    """Return the cost of a run, as a dictionary of numbers; nothing is written.

    Args:
        experiment: the run.
        engine: sim or launch.

    Raises:
        UserError, TopologyError: as the run itself would, or it has too many entries to count.
    """
    prepared = prepare(experiment, engine)
    experiment = prepared.experiment
    sent = predict_run(prepared)
    seconds = _seconds(prepared, engine)
    processes = 1 if engine == "sim" else experiment.peers + 1
    return {
        "engine": engine,
        "peers": experiment.peers,
        "rounds": experiment.rounds,
        "bytes": {
            "payload_total": sent.payload_bytes,
            "payload_exact": sent.exact,
            "payload_messages": sent.payload_messages,
            "control_total": sent.control_bytes,
            "framing_total": sent.payload_framing_bytes + sent.control_framing_bytes,
            "handshake_total": sent.handshake_bytes,
            "wire_total": sent.wire_bytes,
            "per_peer_round_mean": 2 * sent.wire_bytes / experiment.peers / experiment.rounds,
        },
        "seconds": seconds,
        "on_a_cluster": experiment.on_a_cluster,
        # Loading the model has just taken what a process of the run takes, but for weights that
        # travel.
        "memory_bytes": peak_memory() * processes + held_bytes(prepared),
    }


def _seconds(prepared: Prepared, engine: str) -> dict[str, float]:
    experiment, protocol = prepared.experiment, prepared.protocol
    global_model, corpus = prepared.global_model, prepared.corpus
    if global_model is None or corpus is None:
        return dict.fromkeys(("local_step", "rebuild", "evaluation", "answers", "total"), 0.0)
    shared = engine == "sim" and experiment.shares_passes
    together = min(experiment.side_by_side, experiment.peers) if shared else 1
    # What a round does once, as Ferret's projection, belongs to its steps here.
    few = min(experiment.local_steps, _STEPS if METHODS[experiment.method].zeroth_order else 10)
    short = replace(experiment, local_steps=few, local_epochs=0)
    trainer = build_trainer(short, corpus, global_model, together)
    averaging = protocol.averaging
    cut = protocol.empty_accumulator() if averaging is None else averaging.initial
    indices = protocol.draw(0, 0, protocol.empty_accumulator())[:few]
    _train(trainer, together, cut, indices[:1])
    step = _time(lambda: _train(trainer, together, cut, indices)) / few / together
    rows = corpus.split.held_out
    some = rows[: min(len(rows), _EVALUATION_ROWS)]
    evaluation = (
        _time(lambda: global_model.evaluate(cut, corpus.encoded, some)) * len(rows) / len(some)
    )
    from peer.global_model import GlobalModel

    rebuild = _rebuild_seconds(global_model) if isinstance(global_model, GlobalModel) else 0.0
    answers = _answers(experiment, corpus, global_model) if experiment.rouge_rows else 0.0
    own = steps_per_round(experiment, protocol.roster.rows)
    steps = sum(own[p] for r in range(protocol.rounds) for p in protocol.roster.active(r))
    at_once = min(experiment.peers, os.cpu_count() or 1) if engine == "launch" else 1
    rebuilds = (protocol.rounds + 1) * (experiment.peers / at_once if engine == "launch" else 1)
    total = steps * step / at_once + rebuilds * rebuild + (protocol.rounds + 1) * evaluation
    total += answers * sum(is_due(experiment, done) for done in range(protocol.rounds + 1))
    return {
        "local_step": step,
        "rebuild": rebuild,
        "evaluation": evaluation,
        "answers": answers,
        "total": total,
    }


def _answers(experiment: Experiment, corpus: Corpus, global_model: TunedModel) -> float:
    """Return how long it takes the model, as it is now, to answer once for Rouge-L."""
    one, some = (
        questions_of(replace(experiment, rouge_rows=min(experiment.rouge_rows, most)), corpus)
        for most in (1, _ANSWERS)
    )
    # The first answer waits for libraries to be loaded.
    one.ask(global_model.model)
    asked = min(experiment.rouge_rows, len(corpus.split.held_out))
    return _time(lambda: some.ask(global_model.model)) * asked / len(some.rows)


def _rebuild_seconds(global_model: GlobalModel) -> float:
    part = global_model.model.weights[:_REBUILD_WEIGHTS]
    sums = np.ones(len(global_model.seeds), dtype=np.int64)
    out = part.clone()
    # The first call may compile the kernel.
    global_model.kernel.rebuild(out, part, global_model.seeds[:1], sums[:1], 0)
    rebuild = _time(lambda: global_model.kernel.rebuild(out, part, global_model.seeds, sums, 0))
    return rebuild * len(global_model.w0) / len(part)


def _train(
    trainer: Trainer, peers: int, cut: Accumulator | Weights, indices: NDArray[np.int64]
) -> None:
    """Take some local steps of so many peers, at once where the trainer can."""
    if isinstance(trainer, Announced):
        for peer in range(peers):
            trainer.announce(peer, 0, cut, indices)
    for peer in range(peers):
        trainer.train(peer, 0, cut, indices)


def _time(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_words(cost: dict[str, Any]) -> str:
    """Return an estimate for people to read."""
    seconds, sent = cost["seconds"], cost["bytes"]
    answers = f", answers {seconds['answers']:.1f} s" if seconds["answers"] else ""
    rebuild = f" a rebuild {seconds['rebuild']:.2f} s," if seconds["rebuild"] else ""
    lines = [
        f"A {'simulation' if cost['engine'] == 'sim' else 'launch'} of {cost['peers']} peers over "
        f"{cost['rounds']} rounds would take about",
        f"  time    {seconds_in_words(seconds['total'])}"
        f" (a local step {seconds['local_step'] * 1e3:.1f} ms,"
        f"{rebuild}"
        f" an evaluation {seconds['evaluation']:.1f} s{answers})",
        f"  bytes   {bytes_in_words(sent['per_peer_round_mean'])} per peer and round, "
        f"{bytes_in_words(sent['wire_total'])} in all, of which payload "
        f"{'exactly' if sent['payload_exact'] else 'about'} {sent['payload_total']:,}",
        f"  memory  {bytes_in_words(cost['memory_bytes'])}",
        *([_NO_WORKERS] if cost["on_a_cluster"] else []),
        "Nothing was written.",
    ]
    return "\n".join(lines)
