"""One peer started by hand, from a TOML file that says where the others are."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peer.addresses import is_remote
from peer.config import Experiment, experiment_from
from peer.data.division import BY_TASK
from peer.errors import UserError
from peer.event_log import log_event
from peer.events import Event, RoundStarted
from peer.experiment_file import read_toml
from peer.process import Hooks, PeerSettings, run_peer
from peer.records import RunFolder
from peer.reporting import RoundReport
from peer.setup import refuse_varying, resolve_topology
from peer.unused_options import deliberate, unused_options

ENGINE = "peer"
LOG = logging.getLogger("kseed")


def run_by_hand(path: Path) -> bool:
    """Run the peer that a TOML file describes; tell whether it ended with everybody, all alike.

    The file is an experiment's, with keys more: `id`, this peer's place; `bind`, where it listens;
    `addresses`, where each peer can be reached, in the order of their places; and `keys`, the
    folder with public.toml and this peer's secret keys, needed for links beyond this machine.

    Raises:
        UserError, TopologyError: a mistake in the file.
    """
    values = read_toml(path)
    me = _take(values, "id", int)
    bind = _take(values, "bind", str)
    addresses = _take(values, "addresses", list)
    keys = _take(values, "keys", str) if "keys" in values else None
    experiment = experiment_from(values)
    if experiment.partition == BY_TASK and not experiment.is_synthetic:
        # Whether that is one for each task shows when the data are there.
        experiment = replace(experiment, peers=len(addresses))
    experiment, graph = resolve_topology(experiment)
    refuse_varying(graph, ENGINE)
    if len(addresses) != experiment.peers or not all(type(item) is str for item in addresses):
        raise UserError(
            f"addresses = {addresses!r} is not allowed: one text for each of the "
            f"{experiment.peers} peers is wanted"
        )
    curve = _wants_curve(experiment, [bind, *addresses], keys)
    if experiment.sign and keys is None:
        raise UserError(f"sign = true needs keys: {_how_to_make_keys(experiment.peers)}")
    # A peer that comes back goes on from its log, where there is one.
    out, resume = experiment.out or f"runs/peer-{me}", not experiment.averages
    experiment = replace(experiment, out=out, resume=resume)
    folder = RunFolder.for_experiment(experiment, ENGINE)
    LOG.setLevel(experiment.log_level.upper())
    idle = unused_options(experiment, deliberate(values), ENGINE)
    if idle:
        LOG.warning("without effect in this experiment, and ignored: %s", ", ".join(idle))
    traffic = folder.read_links(curve=curve)

    def told(endpoint: str) -> Mapping[int, str]:
        LOG.info("peer %d listens on %s", me, endpoint)
        return dict(enumerate(addresses))

    def trained(report: RoundReport) -> None:
        loss = "" if math.isnan(report.loss) else f": loss {report.loss:.4f}"
        LOG.info("peer %d has trained in round %d%s", me, report.round, loss)

    def happened(event: Event) -> None:
        log_event(me, event)
        if isinstance(event, RoundStarted):
            folder.write_links(traffic)

    hooks = Hooks(told, happened, trained)
    settings = PeerSettings(
        me,
        folder.state(ENGINE),
        bind,
        keys=Path(keys) if keys is not None else None,
        curve=curve,
        # A place that is out of bounds is told later on.
        address=addresses[me] if 0 <= me < len(addresses) else "",
    )

    def prepare_folder() -> None:
        folder.create(experiment, graph, ENGINE)

    # Local steps under way cannot be ended, and everything that counts is on disk at any moment.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        result = run_peer(experiment, settings, hooks, traffic, before=prepare_folder)
    finally:
        signal.signal(signal.SIGINT, before)
    folder.write_state(result.state, with_probabilities=experiment.is_pro)
    folder.write_links(traffic)
    print(f"{'weights    ' if experiment.averages else 'accumulator'} {result.state.digest()}")
    if result.model_digest:
        print(f"model       {result.model_digest}")
    for peers, trouble in (
        (result.missing, "without the logs"),
        (result.differing, "unlike the log"),
    ):
        if peers:
            LOG.warning("ended %s of peers %s", trouble, ", ".join(map(str, peers)))
    return not result.missing and not result.differing


def _wants_curve(experiment: Experiment, addresses: Sequence[str], keys: str | None) -> bool:
    """Return whether links speak CURVE.

    Raises:
        UserError: they would, and there are no keys.
    """
    beyond = [address for address in addresses if is_remote(address)]
    if experiment.curve == "off" or (experiment.curve == "auto" and not beyond):
        return False
    if keys is None:
        why = f"{beyond[0]} is beyond this machine" if beyond else 'curve = "on"'
        how = _how_to_make_keys(experiment.peers)
        raise UserError(f'{why}, so links need keys: {how}; or say curve = "off"')
    return True


def _how_to_make_keys(peers: int) -> str:
    return f'make them with `kseed keys {peers} --to DIR`, and give keys = "DIR"'


def _take(values: dict[str, Any], key: str, type_: type) -> Any:
    words = {int: "a whole number", str: "a text", list: "a list of texts"}[type_]
    if key not in values:
        raise UserError(f"there is no `{key}` in the file: a peer needs {words} there")
    if type(values[key]) is not type_:
        raise UserError(f"{key} = {values[key]!r} is not allowed: must be {words}")
    return values.pop(key)
