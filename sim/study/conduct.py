"""A study is done: what is finished is read, what is not is computed, and the table is made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peer.errors import UserError
from sim.study.attempt import DONE, FAILED, IMPOSSIBLE, Outcome, attempt
from sim.study.definition import Study
from sim.study.errands import Engine, Errand
from sim.study.folder import StudyFolder, leaves_of
from sim.study.measuring import Row, measure
from sim.study.progress import StudyProgress
from sim.study.setting import Setting

LOG = logging.getLogger("kseed")


@dataclass(frozen=True)
class Conducted:
    """A study that has come to its end.

    Attributes:
        study: what was studied.
        folder: where it is.
        outcomes: for each setting, in the order of the grid.
        before: how many settings were finished before.
    """

    study: Study
    folder: StudyFolder
    outcomes: Sequence[Outcome]
    before: int

    def having(self, status: str) -> list[tuple[Setting, Outcome]]:
        """Return the settings with a status."""
        pairs = zip(self.study.settings, self.outcomes, strict=True)
        return [(setting, outcome) for setting, outcome in pairs if outcome.status == status]


def conduct(study: Study, folder: StudyFolder, engine: Engine) -> Conducted:
    """Do what of a study is not finished yet; results are kept one by one, whatever happens.

    Args:
        study: what to do.
        folder: as `StudyFolder.for_study` returns it for this study; held.
        engine: computes settings.

    Raises:
        UserError: no setting is possible, or none can be computed where it was asked for.
    """
    outcomes: dict[str, Outcome] = {}
    for setting in study.settings:
        if setting.refusal:
            outcomes[setting.digest] = Outcome(IMPOSSIBLE, setting.refusal)
        elif row := folder.read_result(setting):
            outcomes[setting.digest] = Outcome(DONE, row=row)
    before = sum(outcome.status == DONE for outcome in outcomes.values())
    todo = [setting for setting in study.settings if setting.digest not in outcomes]
    with (
        StudyProgress(len(study.settings), len(outcomes)) as progress,
        closing(engine.do(ERRAND, todo, folder.path)) as results,
    ):
        for setting, outcome in results:
            outcomes[setting.digest] = outcome
            if outcome.status == FAILED:
                LOG.error("%s: failed: %s", setting.name, outcome.reason)
            progress.advance()
    conducted = Conducted(study, folder, [outcomes[s.digest] for s in study.settings], before)
    impossible = conducted.having(IMPOSSIBLE)
    if len(impossible) == len(study.settings):
        setting, outcome = impossible[0]
        raise UserError(f"no setting is possible; the first one, {setting.name}: {outcome.reason}")
    return conducted


def compute(setting: Setting, folder: Path) -> Outcome:
    """Compute a setting in this process, keep its result, and return what came of it."""
    kept = StudyFolder(folder)
    place = kept.of_setting(setting)
    place.parent.mkdir(exist_ok=True)

    def measured() -> Row:
        row = measure(setting, place)
        kept.write_result(setting, row)
        return row

    return attempt(measured, place.with_suffix(".log"))


ERRAND: Final = Errand(
    compute,
    leaves=lambda setting: leaves_of(setting.digest),
    options=lambda setting: setting.options,
)
"""A setting's, in the folder of its study."""
