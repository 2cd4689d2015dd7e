"""What happens in a run, written into its folder while it happens and when it has ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peer.accumulator import Accumulator
from peer.consensus import Consensus
from peer.measures import Measured, Measures
from peer.records import finite
from peer.reporting import RoundReport
from peer.setup import Prepared
from peer.summary import Outcome, peak_memory, summarise
from peer.tasks import before_and_after, rouge_over_rounds
from peer.traffic import LinkCount
from peer.weights import Weights

if TYPE_CHECKING:
    from peer.evaluation import Losses
    from peer.tuned_model import TunedModel


class Chronicle:
    """Evaluates the model after each round, and keeps rounds.jsonl up to date.

    Args:
        prepared: the run.
        told: called with how many answers of how many a model has given, while it does.
    """

    def __init__(
        self, prepared: Prepared, told: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._prepared = prepared
        self._measures = None
        if prepared.corpus is not None:
            self._measures = Measures(prepared.experiment, prepared.corpus, told)
        self._began = time.perf_counter()
        self._records = {record["round"]: record for record in prepared.folder.read_rounds()}
        samples = prepared.folder.read_samples()
        self._samples = [sample for sample in samples if sample["round"] in self._records]
        self._rebuild = 0.0
        self._rebuild_seconds: dict[int, float | None] = {}
        self._evaluation = 0.0
        self._local_steps = 0.0

    def knows(self, rounds_done: int) -> bool:
        """Tell whether the model after so many rounds has been evaluated, now or before."""
        return rounds_done in self._records

    def close(
        self,
        rounds_done: int,
        state: Accumulator | Weights,
        reports: Sequence[RoundReport],
        sent: LinkCount,
        apart: Consensus | None = None,
    ) -> float:
        """Record the state after so many rounds; return the model's loss, NaN without one.

        Args:
            rounds_done: 0 for the pre-trained model.
            state: the accumulator of these rounds, or the mean of the peers' weights.
            reports: of the last of them.
            sent: by all peers so far.
            apart: where the peers' weights lie around their mean.
        """
        losses, seconds = self._evaluate(state)
        loss = math.nan if losses is None else losses.mean
        measured = self._measure(rounds_done, losses)
        met = [report.loss for report in reports if math.isfinite(report.loss)]
        self._local_steps += sum(report.seconds for report in reports)
        record: dict[str, Any] = {
            "round": rounds_done,
            "eval_loss": loss,
            "train_loss": float(np.mean(met)) if met else None,
            "skipped_steps": sum(report.skipped for report in reports),
            "payload_bytes": sent.payload_bytes,
            "control_bytes": sent.control_bytes,
            "wire_bytes": sent.wire_bytes,
            "accumulator": state.digest(),
            "rouge_l": measured.rouge_l,
            "tasks": measured.tasks,
            "perturbations": None,
        }
        if isinstance(state, Accumulator):
            # What is 0 moves nothing, and is left out of a rebuild.
            record["perturbations"] = int(np.count_nonzero(state.sums))
            # Apart from the record, in which no two runs of one experiment differ.
            self._rebuild_seconds[rounds_done] = seconds
        if apart is not None:
            record["consensus_distance"] = apart.distance
            record["consensus_relative"] = apart.relative
        self._records[rounds_done] = record
        self._prepared.folder.write_rounds(
            self._records[number] for number in sorted(self._records)
        )
        return loss

    def finish(self, engine: str, state: Accumulator | Weights, outcome: Outcome) -> dict[str, Any]:
        """Write what is left to write, and return the summary.

        Args:
            engine: sim or launch.
            state: kept as the run's: the accumulator, or the mean of the peers' weights.
            outcome: completed here by losses, times and memory.
        """
        prepared = self._prepared
        experiment = prepared.experiment
        outcome.skipped_steps = sum(record["skipped_steps"] for record in self._records.values())
        outcome.seconds |= {
            "wall": time.perf_counter() - self._began,
            "local_steps": self._local_steps,
            "rebuild": self._rebuild,
            "evaluation": self._evaluation,
        }
        outcome.peak_memory_bytes = max(outcome.peak_memory_bytes, peak_memory())
        records = [self._records[number] for number in sorted(self._records)]
        model = None
        if prepared.global_model is not None:
            model = self._model(prepared.global_model)
            outcome.losses = [record["eval_loss"] for record in records]
            outcome.rouge_l = rouge_over_rounds(records)
            outcome.tasks = before_and_after(records)
        if experiment.averages:
            outcome.consensus = self._consensus(records)
        else:
            outcome.rebuild = {
                "perturbations": [record.get("perturbations") for record in records[1:]],
                "seconds": [self._rebuild_seconds.get(record["round"]) for record in records[1:]],
            }
        folder = prepared.folder
        whole = summarise(engine, experiment, prepared.graph, prepared.corpus, model, outcome)
        # What is returned may be printed as JSON too.
        summary: dict[str, Any] = finite(whole | {"folder": str(folder.path)})
        folder.write_state(state, with_probabilities=experiment.is_pro)
        folder.write_links(outcome.traffic)
        if summary["tasks"]:
            folder.write_tasks(summary["tasks"])
        folder.write_summary(summary)
        return summary

    def model_digests(self, states: Sequence[Any]) -> list[str]:
        """Return the digest of each peer's model, made of that peer's own state."""
        global_model = self._prepared.global_model
        if global_model is None:
            return []
        began = time.perf_counter()
        digests = global_model.digests(states)
        self._rebuild += time.perf_counter() - began
        return digests

    def _model(self, tuned: TunedModel) -> dict[str, Any]:
        """Return what the summary says of the model."""
        return {
            "name": self._prepared.experiment.model,
            "parameters": tuned.model.size,
            "dtype": self._prepared.experiment.dtype,
            "trained": tuned.model.layout.parameters,
        }

    def _consensus(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            "distance": records[-1]["consensus_distance"],
            "relative": records[-1]["consensus_relative"],
            "per_round": [record["consensus_distance"] for record in records[1:]],
        }

    def _evaluate(self, cut: Accumulator | Weights) -> tuple[Losses | None, float | None]:
        """Return the losses of the rows held out, and the seconds of the rebuild before."""
        global_model, corpus = self._prepared.global_model, self._prepared.corpus
        if global_model is None or corpus is None:
            return None, None
        from peer.evaluation import row_losses

        began = time.perf_counter()
        global_model.go_to(cut)
        rebuilt = time.perf_counter()
        losses = row_losses(global_model.model, corpus.encoded, corpus.split.held_out)
        self._rebuild += rebuilt - began
        self._evaluation += time.perf_counter() - rebuilt
        return losses, rebuilt - began

    def _measure(self, rounds_done: int, losses: Losses | None) -> Measured:
        """Measure what is due after so many rounds of the model that has just been evaluated."""
        global_model, measures = self._prepared.global_model, self._measures
        if global_model is None or measures is None or losses is None:
            return Measured()
        began = time.perf_counter()
        measured = measures.take(rounds_done, global_model.model, losses)
        if measured.samples:
            self._samples += [{"round": rounds_done} | sample for sample in measured.samples]
            # The answers to one prompt below each other.
            self._samples.sort(key=lambda sample: (sample["row"], sample["round"]))
            self._prepared.folder.write_samples(self._samples)
        self._evaluation += time.perf_counter() - began
        return measured
