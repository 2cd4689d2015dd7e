"""`kseed export` and `kseed rollback`: what is made of a run's folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from peer.methods import METHODS, Part
from sim.commands.parsing import Commands

_ADAPTER = ", for peft.PeftModel.from_pretrained on the model {1}"
_EXPORTED: Final = {
    Part.ALL: "the tuned model is in {0}",
    Part.LORA: "the LoRA factors are in {0}" + _ADAPTER,
    Part.PROMPT_ENCODER: "the tokens that the prompt encoder makes are in {0}" + _ADAPTER,
    Part.SOFT_PROMPT: "the soft prompt is in {0}" + _ADAPTER,
}


def add(commands: Commands) -> None:
    """Add both commands."""
    export = commands.add_parser(
        "export", help="write a run's model, or adapter, as a Hugging Face folder"
    )
    export.add_argument("folder", type=Path, help="a run folder")
    export.add_argument("--to", type=Path, required=True, help="a new folder")
    export.set_defaults(run=_export)
    back = commands.add_parser("rollback", help="go back to the state after an earlier round")
    back.add_argument("folder", type=Path, help="a run folder")
    back.add_argument("--round", type=int, required=True, help="how many rounds to keep")
    back.add_argument("--to", type=Path, required=True, help="a new run folder")
    back.set_defaults(run=_rollback)


def _export(parsed: argparse.Namespace) -> int:
    from peer.export import export
    from peer.records import RunFolder

    export(parsed.folder, parsed.to)
    experiment = RunFolder(parsed.folder).experiment()
    print(_EXPORTED[METHODS[experiment.method].trains].format(parsed.to, experiment.model))
    return 0


def _rollback(parsed: argparse.Namespace) -> int:
    from peer.records import CONFIG
    from peer.rollback import rollback

    made = rollback(parsed.folder, parsed.round, parsed.to)
    print(f"the run as it was after {parsed.round} rounds is in {parsed.to}")
    if made.absent:
        print("closed without entries of peers " + ", ".join(map(str, made.absent)))
    if made.engine != "peer":
        config = parsed.to / CONFIG
        print(f"to go on: kseed {made.engine} {config} --out {parsed.to} --resume")
    return 0
