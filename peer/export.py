"""The tuned model of a run as a Hugging Face folder; of an adapter, the adapter alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peer.errors import UserError
from peer.methods import METHODS
from peer.records import RunFolder

if TYPE_CHECKING:
    from peer.model import FlatModel


def export(run: Path, to: Path) -> str:
    """Save what a run has trained with its tokenizer; return the digest of the weights.

    Where peers average, that is the mean of theirs. Adapters are saved as `peft` loads them.

    Raises:
        UserError: no ended run with a model is there, or `to` exists already.
    """
    folder = RunFolder(run)
    experiment = folder.experiment()
    if experiment.is_synthetic:
        raise UserError(f"{run} was made by the synthetic trainer: there is no model to export")
    state = folder.read_state(experiment)
    if to.exists():
        raise UserError(f"{to} exists already, a new folder is wanted")
    from peer.model import load_tokenizer
    from peer.setup import build_global_model

    tuned = build_global_model(experiment, remember=False, threads=None)
    folder.check_model(experiment.model, tuned.layout)
    digest = tuned.digest(state)
    try:
        to.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{to} cannot be made: {error.strerror}") from None
    _save(tuned.model, to, adapted=METHODS[experiment.method].trains.adapter is not None)
    load_tokenizer(experiment.model).save_pretrained(to)
    return digest


def _save(model: FlatModel, to: Path, *, adapted: bool) -> None:
    if adapted:
        from peer.adapters import AdaptedModel, export_adapter

        assert isinstance(model, AdaptedModel)
        export_adapter(model, to)
        return
    # Saved through a copy: the flat buffer is one storage, which safetensors would refuse to split.
    state = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    model.module.save_pretrained(to, state_dict=state)
