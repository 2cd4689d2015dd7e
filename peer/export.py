"""The tuned model of a run as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from peer.errors import UserError
from peer.records import RunFolder


def export(run: Path, to: Path) -> str:
    """Rebuild a run's model and save it with its tokenizer; return the digest of the weights.

    Raises:
        UserError: no ended run with a model is there, or `to` exists already.
    """
    folder = RunFolder(run)
    experiment = folder.experiment()
    if experiment.is_synthetic:
        raise UserError(f"{run} was made by the synthetic trainer: there is no model to export")
    accumulator = folder.read_accumulator()
    if to.exists():
        raise UserError(f"{to} exists already, a new folder is wanted")
    from peer.model import load_tokenizer
    from peer.setup import build_global_model

    global_model = build_global_model(experiment, remember=False, threads=None)
    folder.check_model(experiment.model, global_model.layout)
    digest = global_model.digest(accumulator)
    try:
        to.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{to} cannot be made: {error.strerror}") from None
    # Saved through a copy: the flat buffer is one storage, which safetensors would refuse to split.
    state = {
        name: tensor.clone() for name, tensor in global_model.model.module.state_dict().items()
    }
    global_model.model.module.save_pretrained(to, state_dict=state)
    load_tokenizer(experiment.model).save_pretrained(to)
    return digest
