"""`kseed study`: a grid over any options of an experiment, computed in parallel, as one tidy table.

From a notebook or a program (below `if __name__ == "__main__"` there, for workers import it):

    import sim.study
    table = sim.study.run(peers=[8, 16, 32], topology="torus", gossip=["flood", "tree"], rounds=2)
    table.groupby("gossip")["bytes_per_peer_round"].mean()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run"]


def run(
    *, out: str = "", resume: bool = False, workers: int | None = None, **options: Any
) -> pd.DataFrame:
    """Do a study, and return its table; the folder has it too, and pictures.

    Args:
        out: the study's folder; one that holds a part of this study is gone on with. Empty: a new
            one below studies/.
        resume: go on with the newest of the study's name below studies/.
        workers: how many settings are computed at a time; None: as many as there are processors.
        options: of an experiment, those with a list of values being varied; and `name` and
            `measure` of the study. With engine="ray" settings are tasks on a cluster.

    Returns:
        See `sim.study.table.rows`.

    Raises:
        UserError, TopologyError: a mistake, told in one line.
    """
    from peer.config import WHERE, experiment_from
    from sim.processors import processors
    from sim.study.away import engine_for
    from sim.study.conduct import conduct
    from sim.study.definition import define
    from sim.study.errands import Workers
    from sim.study.figures import draw_study
    from sim.study.folder import StudyFolder
    from sim.study.table import frame, rows, write_table

    where = experiment_from({key: options.pop(key) for key in WHERE if key in options})
    sweep = {
        key: values
        for key, values in options.items()
        if isinstance(values, list | range) and key != "scenario"
    }
    fixed = {key: value for key, value in options.items() if key not in sweep}
    study = define(fixed | {"sweep": sweep})
    folder = StudyFolder.for_study(study, out, resume=resume)
    here = Workers(workers or processors())
    with engine_for(where, here, alone=False) as engine, folder.held(study):
        table = rows(conducted := conduct(study, folder, engine))
        write_table(table, folder.path, parquet=False)
        draw_study(conducted, table)
    return frame(table)
