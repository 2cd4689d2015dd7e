"""The run folder: what a run leaves, and what it can be resumed from.

config.toml         the resolved experiment
summary.json        schema 1, other programs read it
rounds.jsonl        one line a round
samples.jsonl       what the model has said to some held-out prompts, where Rouge-L is measured
tasks.csv           loss and Rouge-L of each task at the start and at the end
links.csv           bytes and messages per directed link: payload, control, framing, handshake; of a
                    run that was rolled back, those since then
topology.json       the graph as node-link JSON
layout.json         digest of w0; name, shape and offset of each parameter
accumulator.npz     sums, sums of |g|, counts, and their units
weights.npz         in its place, where weights are averaged: the mean of the peers'
tune.json tune.csv  what a search for learning rate and epsilon has found before the run
probabilities.csv   FedKSeed-Pro: how likely each candidate seed is in the end
sim/ launch/ peer/  logs of entries, by the command that made the run
plots/*.svg         loss and bytes per link
report.html         all of it to be read, by `kseed report`
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

import topology
from peer.accumulator import Accumulator
from peer.config import SCENARIO, WHERE, Experiment, experiment_from
from peer.declarations import options
from peer.errors import UserError
from peer.experiment_file import read_toml, write_toml
from peer.importance import probabilities
from peer.traffic import LinkCount, Traffic
from peer.units import Units
from peer.weights import Weights
from peer.whole_file import replacing, write_whole

CONFIG = "config.toml"
LAYOUT = "layout.json"
SUMMARY = "summary.json"
TOPOLOGY = "topology.json"
LINKS = "links.csv"
ROUNDS = "rounds.jsonl"
SAMPLES = "samples.jsonl"
TASKS = "tasks.csv"
ACCUMULATOR = "accumulator.npz"
WEIGHTS = "weights.npz"
TUNE = "tune.json"
TUNE_TABLE = "tune.csv"
ROUND: dict[str, type] = {"round": int, "skipped_steps": int, "accumulator": str}
"""What a line of rounds.jsonl must hold to be believed."""
SAMPLE: dict[str, type] = {"round": int, "row": int}
"""The same of a line of samples.jsonl."""


def weights_after(rounds: int) -> str:
    """Return the name of the file with a peer's weights after so many rounds, until they end."""
    return f"weights-{rounds}.npz"


NEVER_SAVED = ("resume", "dry_run", "tune", "json", "out", *WHERE)
"""Options that tell one call what to do and say nothing of the run."""


class RunFolder:
    """One run's folder. Nothing is written before `create`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def for_experiment(cls, experiment: Experiment, engine: str) -> RunFolder:
        """Return the folder that an experiment asks for, without touching it.

        Raises:
            UserError: it holds another run, or one that cannot be resumed with this experiment.
        """
        if not experiment.out:
            return cls(_new_name(experiment))
        folder = cls(Path(experiment.out))
        if not folder.path.exists() or not any(_entries(folder.path)):
            return folder
        if not (folder.path / CONFIG).exists():
            raise UserError(f"out = {experiment.out!r} is not empty and holds no run")
        if not experiment.resume:
            how = "" if experiment.averages else ", or resume it with --resume"
            raise UserError(
                f"out = {experiment.out!r} already holds a run; choose another folder{how}"
            )
        folder._check_resumable(experiment, engine)
        return folder

    def _check_resumable(self, experiment: Experiment, engine: str) -> None:
        before = self.experiment()
        mine, theirs = experiment.identity(), before.identity()
        for name, value in mine.items():
            if value != theirs[name]:
                raise UserError(
                    f"{self.path} holds another experiment: {name} is {theirs[name]!r} there "
                    f"and {value!r} here"
                )
        if experiment.rounds < before.rounds:
            raise UserError(
                f"rounds = {experiment.rounds} is not allowed: {self.path} has been started with "
                f"{before.rounds}, and the number may only grow"
            )
        if experiment.units() != replace(experiment, rounds=before.rounds).units():
            raise UserError(
                f"rounds = {experiment.rounds} is not allowed: so many need an accumulator of "
                f"coarser units than the one in {self.path}"
            )
        if not self.state(engine).exists():
            raise UserError(f"{self.path} was not made by `kseed {engine}`")

    def create(
        self,
        experiment: Experiment,
        graph: topology.Topology,
        engine: str,
        layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the folder, with what is known before the first round.

        Args:
            experiment: resolved.
            graph: its topology.
            engine: sim, launch or peer.
            layout: see `GlobalModel.layout`; None without a model.

        Raises:
            UserError: it cannot be made.
        """
        try:
            self.state(engine).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"out = {str(self.path)!r} cannot be made: {error.strerror}") from None
        saved = {
            item.name: getattr(experiment, item.name)
            for item in options()
            if item.name not in NEVER_SAVED
        }
        write_whole(self.path / CONFIG, write_toml(saved | {SCENARIO: experiment.scenario}))
        topology.save(graph, self.path / TOPOLOGY)
        if layout is not None:
            write_whole(self.path / LAYOUT, json.dumps(layout) + "\n")

    def check_model(self, name: str, layout: Mapping[str, Any]) -> None:
        """Hold a model against the one that the run in this folder has started from, if any.

        Args:
            name: as the user gave it.
            layout: see `GlobalModel.layout`.

        Raises:
            UserError: they differ.
        """
        path = self.path / LAYOUT
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != layout:
            raise UserError(f"model = {name!r} is not the one that {self.path} has started from")

    def tensor_sizes(self) -> list[int] | None:
        """Return how many weights each tensor of the run's model has; None: it had no model."""
        path = self.path / LAYOUT
        if not path.exists():
            return None
        rows = json.loads(path.read_text(encoding="utf-8"))["parameters"]
        return [math.prod(shape) for _, shape, _ in rows]

    def state(self, engine: str) -> Path:
        """Return the folder of what an engine needs to resume."""
        return self.path / engine

    def experiment(self) -> Experiment:
        """Return the experiment whose run this is.

        Raises:
            UserError: there is none.
        """
        if not (self.path / CONFIG).exists():
            raise UserError(f"{self.path} is no run folder: there is no {CONFIG} in it")
        return experiment_from(read_toml(self.path / CONFIG))

    def read_rounds(self) -> list[dict[str, Any]]:
        """Return the lines of rounds.jsonl up to the first damaged one; none without a file."""
        return _read_lines(self.path / ROUNDS, ROUND)

    def write_rounds(self, rounds: Iterable[Mapping[str, Any]]) -> None:
        """Write rounds.jsonl anew."""
        _write_lines(self.path / ROUNDS, rounds)

    def read_samples(self) -> list[dict[str, Any]]:
        """Return the lines of samples.jsonl up to the first damaged one; none without a file."""
        return _read_lines(self.path / SAMPLES, SAMPLE)

    def write_samples(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Write samples.jsonl anew."""
        _write_lines(self.path / SAMPLES, samples)

    def write_tasks(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Write tasks.csv from a summary's tasks; what was not measured is left empty."""
        rows = [
            [task["task"], task["rows"], *_ends(task["loss"]), *_ends(task["rouge_l"])]
            for task in tasks
        ]
        with replacing(self.path / TASKS) as new, new.open("w", newline="") as file:
            writer = csv.writer(file)
            columns = ["loss_initial", "loss_final", "rouge_l_initial", "rouge_l_final"]
            writer.writerow(["task", "rows", *columns])
            writer.writerows(rows)

    def write_links(self, traffic: Traffic) -> None:
        """Write links.csv."""
        columns = [item.name for item in fields(LinkCount)]
        path = self.path / LINKS
        with replacing(path) as new, new.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sender", "receiver", *columns])
            for sender, receiver, count in traffic.links():
                writer.writerow([sender, receiver, *asdict(count).values()])

    def read_links(self, *, curve: bool = False) -> Traffic:
        """Return what links.csv has counted, nothing if there is none.

        Args:
            curve: see `Traffic`; for what is still to be counted.
        """
        traffic = Traffic(curve=curve)
        path = self.path / LINKS
        if not path.exists():
            return traffic
        columns = ["sender", "receiver", *(item.name for item in fields(LinkCount))]
        try:
            with path.open(newline="", encoding="ascii") as file:
                header, *rows = csv.reader(file)
            if header != columns:
                raise ValueError("its columns are others")
            for sender, receiver, *counts in rows:
                numbers = [int(count) for count in counts]
                traffic.add(int(sender), int(receiver), LinkCount(*numbers))
        except (ValueError, TypeError, csv.Error) as error:
            raise UserError(f"{path} is damaged: {error}") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        return traffic

    def write_accumulator(self, accumulator: Accumulator, *, with_probabilities: bool) -> None:
        """Write accumulator.npz, and for FedKSeed-Pro probabilities.csv."""
        path = self.path / ACCUMULATOR
        with replacing(path) as new, new.open("wb") as file:
            np.savez(
                file,
                sums=accumulator.sums,
                magnitudes=accumulator.magnitudes,
                counts=accumulator.counts,
                units=np.array(list(asdict(accumulator.units).values()), dtype=np.int64),
            )
        if with_probabilities:
            chances = probabilities(accumulator)
            rows = [
                f"{index},{count},{chance:.9g}\n"
                for index, (count, chance) in enumerate(
                    zip(accumulator.counts, chances, strict=True)
                )
            ]
            write_whole(
                self.path / "probabilities.csv", "seed_index,drawn,probability\n" + "".join(rows)
            )

    def read_accumulator(self) -> Accumulator:
        """Return the accumulator that the run has ended with.

        Raises:
            UserError: there is none.
        """
        path = self.path / ACCUMULATOR
        if not path.exists():
            raise UserError(f"{self.path} has no {ACCUMULATOR}: the run has not ended")
        try:
            # Opened here, since numpy leaves a broken file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                units = Units(*(int(number) for number in arrays["units"]))
                parts = [arrays[name] for name in ("sums", "magnitudes", "counts")]
            if any(part.dtype != np.int64 or part.shape != parts[0].shape for part in parts):
                raise ValueError("its arrays are not of whole numbers and equal length")
            return Accumulator(units, *parts)
        # A truncated or foreign file shows itself in one of these ways.
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise UserError(f"{path} cannot be read: {error}") from None

    def read_state(self, experiment: Experiment) -> Accumulator | Weights:
        """Return what the run of an experiment has ended with.

        Raises:
            UserError: there is nothing.
        """
        return self.read_weights() if experiment.averages else self.read_accumulator()

    def write_state(
        self, state: Accumulator | Weights, *, with_probabilities: bool = False
    ) -> None:
        """Write what the run has ended with: accumulator.npz, or weights.npz where they average."""
        if isinstance(state, Accumulator):
            self.write_accumulator(state, with_probabilities=with_probabilities)
        else:
            self.write_weights(state)

    def write_weights(self, weights: Weights, name: str = WEIGHTS) -> None:
        """Write weights.npz, or a file of another name."""
        path = self.path / name
        with replacing(path) as new, new.open("wb") as file:
            np.savez(file, raw=weights.raw, dtype=np.array(weights.dtype))

    def read_weights(self, name: str = WEIGHTS) -> Weights:
        """Return the weights that the run has ended with, or those in a file of another name.

        Raises:
            UserError: there are none.
        """
        path = self.path / name
        if not path.exists():
            raise UserError(f"{self.path} has no {name}: the run has not ended")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return Weights(str(arrays["dtype"]), arrays["raw"])
        # A truncated or foreign file shows itself in one of these ways.
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise UserError(f"{path} cannot be read: {error}") from None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        write_whole(self.path / SUMMARY, json.dumps(finite(dict(summary)), indent=2) + "\n")


def _read_lines(path: Path, kinds: Mapping[str, type]) -> list[dict[str, Any]]:
    """Return the lines up to the first that is no object with these keys of these types."""
    records: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or {k: type(record.get(k)) for k in kinds} != kinds:
            break
        records.append(record)
    return records


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(finite(dict(each))) + "\n" for each in records))


def _ends(measure: Mapping[str, Any] | None) -> list[Any]:
    """Return what a measure was at first and at last."""
    return [None, None] if measure is None else [measure["initial"], measure["final"]]


def _entries(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        raise UserError(f"out = {str(path)!r} is a file, a folder is wanted")
    return (entry for entry in path.iterdir() if entry.name not in (TUNE, TUNE_TABLE))


def _new_name(experiment: Experiment) -> Path:
    graph = Path(experiment.topology).stem
    base = f"{graph}-{experiment.peers}-{experiment.method}"
    number = 1
    while (path := Path("runs") / f"{base}-{number}").exists():
        number += 1
    return path


def finite(value: Any) -> Any:
    """Return a value with null for every number that JSON has no way to write."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
