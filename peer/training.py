"""From an experiment to what takes the local steps of its peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peer.block_count import block_count
from peer.config import Experiment
from peer.corpus import Corpus
from peer.errors import UserError
from peer.methods import METHODS, Steps
from peer.seeding import BLOCKS
from peer.trained_size import trained_size
from peer.trainer import SyntheticTrainer, SyntheticWeights, Trainer
from peer.tuned_model import TunedModel

if TYPE_CHECKING:
    from peer.local_data import LocalData
    from peer.local_steps import LocalSteps
    from peer.model import FlatModel
    from peer.zeroth_order import Step


def build_trainer(
    experiment: Experiment,
    corpus: Corpus | None,
    tuned: TunedModel | None,
    side_by_side: int = 1,
) -> Trainer:
    """Return what takes the local steps of any peer of the experiment.

    Args:
        experiment: the run.
        corpus: None without a model.
        tuned: None without a model.
        side_by_side: the option of that name, where it holds.

    Raises:
        UserError: there is no such optimiser, it does not go with the weights, there are fewer
            candidate seeds than coordinates, or tokens that the model does not know; or of made-up
            weights it is not known how many there are.
    """
    method = METHODS[experiment.method]
    if corpus is None or tuned is None:
        if method.averages:
            size = trained_size(experiment)
            return SyntheticWeights(experiment.seed, size.dtype, size.count)
        even = even_counts(experiment) if method.seeding == BLOCKS else None
        return SyntheticTrainer(experiment.seed, even)
    from peer.local_data import LocalData

    _check_vocabulary(corpus, tuned.model)
    data = LocalData(corpus.encoded, dict(enumerate(corpus.split.shards)), experiment.seed)
    if method.averages:
        return _averaging(experiment, data, tuned)
    if method.seeding == BLOCKS:
        return _projecting(experiment, data, tuned)
    return _summing(experiment, data, tuned, min(side_by_side, experiment.peers))


def _check_vocabulary(corpus: Corpus, model: FlatModel) -> None:
    """Refuse rows with tokens that the model has no embedding of."""
    embeddings: Any = model.module.get_input_embeddings()
    known, last = embeddings.num_embeddings, int(corpus.encoded.tokens.max())
    if last >= known:
        raise UserError(
            f"the tokenizer is not the model's: it makes a token {last} of the data, and the model "
            f"knows tokens 0 to {known - 1}"
        )


def _averaging(experiment: Experiment, data: LocalData, tuned: TunedModel) -> Trainer:
    from peer.averaging_trainer import AveragingTrainer, Schedule

    first_order = METHODS[experiment.method].steps is Steps.FIRST_ORDER
    schedule = Schedule(
        experiment.local_steps,
        experiment.local_epochs,
        experiment.batch_size,
        experiment.accumulate if first_order else 1,
    )
    return AveragingTrainer(tuned.model, data, _local_steps(experiment, tuned), schedule)


def _local_steps(experiment: Experiment, tuned: TunedModel) -> LocalSteps:
    from peer.first_order import FirstOrder
    from peer.forward_steps import FedZO, MeZO
    from peer.perturbation import perturbation

    steps, weights = METHODS[experiment.method].steps, tuned.model.weights
    if steps is Steps.FIRST_ORDER:
        return FirstOrder(
            experiment.optimizer,
            experiment.learning_rate,
            experiment.accumulate,
            dtype=weights.dtype,
        )
    kernel = perturbation(experiment.perturbation, weights.device)
    if steps is Steps.MEZO:
        return MeZO(kernel, _step(experiment), experiment.seed)
    return FedZO(kernel, _step(experiment), experiment.directions, experiment.seed)


def _projecting(experiment: Experiment, data: LocalData, tuned: TunedModel) -> Trainer:
    from peer.ferret_trainer import FerretTrainer, Projecting
    from peer.global_model import GlobalModel

    assert isinstance(tuned, GlobalModel)
    steps = _local_steps(experiment, tuned)
    projecting = Projecting(
        local_steps=experiment.local_steps,
        accumulate=experiment.accumulate,
        batch_size=experiment.batch_size,
        coordinates=experiment.coordinates,
        learning_rate=experiment.learning_rate,
        gradient_bound=experiment.gradient_bound,
    )
    return FerretTrainer(tuned, data, steps, projecting)


def _summing(experiment: Experiment, data: LocalData, tuned: TunedModel, together: int) -> Trainer:
    from peer.global_model import GlobalModel
    from peer.zeroth_order import ZerothOrderTrainer

    assert isinstance(tuned, GlobalModel)
    if together > 1:
        from peer.side_by_side import SideBySideTrainer

        return SideBySideTrainer(tuned, data, _step(experiment), together)
    return ZerothOrderTrainer(tuned, data, _step(experiment))


def _step(experiment: Experiment) -> Step:
    from peer.zeroth_order import Step

    return Step(
        epsilon=experiment.epsilon,
        learning_rate=experiment.learning_rate,
        gradient_bound=experiment.gradient_bound,
        batch_size=experiment.batch_size,
    )


def even_counts(experiment: Experiment) -> NDArray[np.int64]:
    """Return as many coordinates for each block as for any other, but for one; shape (L,)."""
    blocks = block_count(experiment)
    places = np.arange(blocks + 1) * experiment.coordinates // blocks
    counts: NDArray[np.int64] = np.diff(places)
    return counts
