"""What is measured of a model beside its mean loss: its answers, and each task by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peer.config import Experiment
from peer.corpus import Corpus
from peer.tasks import Tasks

if TYPE_CHECKING:
    from peer.answers import Answers, Questions
    from peer.evaluation import Losses
    from peer.model import FlatModel


@dataclass(frozen=True)
class Measured:
    """What was measured after a round.

    Attributes:
        rouge_l: the mean over the answers; None: the model was not asked.
        tasks: see `Tasks.measures`; None: they were not looked at.
        samples: see `Questions.samples`.
    """

    rouge_l: float | None = None
    tasks: list[dict[str, Any]] | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)


class Measures:
    """Measures models at the start, at the end, and every `rouge_every` rounds.

    Args:
        experiment: the run's.
        corpus: its rows.
        told: called with how many answers there are so far, and how many there will be.
    """

    def __init__(
        self, experiment: Experiment, corpus: Corpus, told: Callable[[int, int], None]
    ) -> None:
        self._experiment = experiment
        self._corpus = corpus
        self._told = told
        self._tasks = Tasks(corpus.encoded)
        self._questions: Questions | None = None

    def take(self, rounds_done: int, model: FlatModel, losses: Losses) -> Measured:
        """Return what is to be measured after so many rounds.

        Args:
            rounds_done: 0 for the pre-trained model.
            model: after them.
            losses: its, of the rows held out.
        """
        if not is_due(self._experiment, rounds_done):
            return Measured()
        answers: Answers | None = None
        samples: list[dict[str, Any]] = []
        if self._experiment.rouge_rows:
            answers, samples = self._ask(model)
        tasks = self._tasks.measures(self._corpus.split.held_out, losses, answers)
        return Measured(None if answers is None else answers.mean, tasks, samples)

    def _ask(self, model: FlatModel) -> tuple[Answers, list[dict[str, Any]]]:
        if self._questions is None:
            self._questions = questions_of(self._experiment, self._corpus)
        answers = self._questions.ask(model, self._told)
        return answers, self._questions.samples(answers)


def is_due(experiment: Experiment, rounds_done: int) -> bool:
    """Tell whether answers and tasks are to be measured after so many rounds."""
    every = experiment.rouge_every
    return rounds_done in (0, experiment.rounds) or (every > 0 and rounds_done % every == 0)


def questions_of(experiment: Experiment, corpus: Corpus) -> Questions:
    """Return what an experiment with Rouge-L asks its models."""
    from peer.answers import Questions
    from peer.model import load_tokenizer, positions

    return Questions(
        corpus.encoded,
        corpus.split.held_out,
        load_tokenizer(experiment.model),
        count=experiment.rouge_rows,
        new_tokens=experiment.new_tokens,
        positions=positions(experiment.model) - experiment.virtual_positions,
    )
