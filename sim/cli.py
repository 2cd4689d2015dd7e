"""The `kseed` command: thin doors to what the packages do."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import sim
import topology
from peer.config import PRESETS, Experiment, experiment_from, groups, options
from peer.errors import RunFailed, UserError
from peer.experiment_file import commented_toml, read_toml
from peer.options import allowed, kind
from peer.unused_options import unused_options
from sim.bench.options import BENCHES, BenchOptions, bench_options, unused_bench_options

EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_INCOMPLETE = 3
EXIT_INTERRUPTED = 130
LOG = logging.getLogger("kseed")


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    Returns:
        0: done. 2: a mistake of the user's, told in one line. 3: a run ended without everybody, or
        not all alike. 1: something failed that was not the user's mistake. 130: interrupted.
    """
    try:
        parsed = _parser().parse_args(arguments)
        status: int = parsed.run(parsed)
    except (UserError, topology.TopologyError) as error:
        print(f"kseed: {_in_one_line(error)}", file=sys.stderr)
        return EXIT_MISTAKE
    except OSError as error:
        print(f"kseed: {_in_one_line(error)}", file=sys.stderr)
        return EXIT_MISTAKE if error.filename else EXIT_FAILED
    except RunFailed as error:
        print(f"kseed: {_in_one_line(error)}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("kseed: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status


def _in_one_line(error: Exception) -> str:
    """Return a message with escapes for what would break its line, as a file's name may hold it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kseed", description="Tune a language model by gossip, without a server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    simulate = commands.add_parser("sim", help="run an experiment in one process, in virtual time")
    _add_experiment(simulate)
    simulate.set_defaults(run=_sim, engine="sim")
    launch = commands.add_parser("launch", help="run an experiment with one process a peer")
    _add_experiment(launch)
    launch.set_defaults(run=_launch, engine="launch")
    peer = commands.add_parser("peer", help="run one peer by hand")
    peer.add_argument("file", type=Path, help="the experiment, with id, bind and addresses")
    peer.set_defaults(run=_peer)
    keys = commands.add_parser("keys", help="make the keys of peers that are run by hand")
    keys.add_argument("peers", metavar="N", help="number of peers")
    keys.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder for the files")
    keys.set_defaults(run=_keys)
    graph = commands.add_parser("topology", help="measure and draw a topology")
    graph.add_argument("name", help="a family, or a file: " + ", ".join(topology.FAMILIES))
    graph.add_argument("--peers", type=int, help="number of peers (default 8; a file sets it)")
    graph.add_argument("--degree", type=int, default=4, help="degree of the families with one")
    graph.add_argument("--seed", type=int, default=0, help="of the random families")
    graph.add_argument("--svg", type=Path, help="where to draw it (default: NAME-PEERS.svg)")
    graph.set_defaults(run=_topology)
    export = commands.add_parser("export", help="write a run's model as a Hugging Face folder")
    export.add_argument("folder", type=Path, help="a run folder")
    export.add_argument("--to", type=Path, required=True, help="a new folder")
    export.set_defaults(run=_export)
    back = commands.add_parser("rollback", help="go back to the state after an earlier round")
    back.add_argument("folder", type=Path, help="a run folder")
    back.add_argument("--round", type=int, required=True, help="how many rounds to keep")
    back.add_argument("--to", type=Path, required=True, help="a new run folder")
    back.set_defaults(run=_rollback)
    bench = commands.add_parser(
        "bench",
        help="measure rebuilds, local steps, memory, gossip and the simulator",
        description="Measure what a rebuild, a local step and a round's memory cost here, beside "
        "the published program and beside a limit; what gossip costs on simulated networks, and "
        "how fast these are simulated.",
        epilog="--json prints one object. Its fields hold for the distribution asked for, or for "
        "the default of an experiment; the object `results` has them for each one "
        "measured. The figures of gossip and simulator are in `figures`, with their limits. "
        "Without BENCH there is an object for each bench, by its name.",
    )
    bench.add_argument(
        "bench",
        nargs="?",
        choices=BENCHES,
        metavar="BENCH",
        help="one of " + ", ".join(BENCHES) + " (default: all)",
    )
    _add_flags(bench, bench_options())
    bench.set_defaults(run=_bench)
    init = commands.add_parser("init", help="write a commented experiment.toml")
    init.add_argument("file", type=Path, nargs="?", default=Path("experiment.toml"))
    init.set_defaults(run=_init)
    return parser


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    # Dozens of flags in a row would say nothing.
    parser.usage = f"{parser.prog} [-h] [file] [--preset PRESET] [--OPTION VALUE ...]"
    parser.add_argument("file", type=Path, nargs="?", help="an experiment in TOML")
    parser.add_argument(
        "--preset", help=f"options to start from, under the file's: {', '.join(PRESETS)}"
    )
    for title, items in groups().items():
        _add_flags(parser.add_argument_group(title), items)


def _add_flags(parser: argparse._ActionsContainer, items: Iterable[Any]) -> None:
    for item in items:
        flag = "--" + item.name.replace("_", "-")
        default = "none" if item.default == "" else item.default
        about = f"{item.metadata['help']} (default: {default})".replace("%", "%%")
        if kind(item) is bool:
            action: Any = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=None, help=about)
        else:
            parser.add_argument(
                flag, dest=item.name, metavar=kind(item).__name__.upper(), help=about
            )


def _experiment(parsed: argparse.Namespace) -> Experiment:
    """Return the experiment of a file and of the flags, which win."""
    values = read_toml(parsed.file) if parsed.file else {}
    if parsed.preset is not None:
        values["preset"] = parsed.preset
    values |= _given(parsed, options())
    experiment = experiment_from(values)
    logging.basicConfig(format="kseed: %(message)s", stream=sys.stderr, force=True)
    LOG.setLevel(experiment.log_level.upper())
    idle = unused_options(experiment, values, parsed.engine)
    if idle:
        LOG.warning("without effect in this experiment, and ignored: %s", ", ".join(idle))
    return experiment


def _given(parsed: argparse.Namespace, items: Iterable[Any]) -> dict[str, Any]:
    """Return the values of the flags that were given."""
    values = {}
    for item in items:
        text = getattr(parsed, item.name)
        if text is not None:
            values[item.name] = text if kind(item) in (bool, str) else _number(item, text)
    return values


def _option(name: str) -> Any:
    return next(item for item in options() if item.name == name)


def _number(item: Any, text: str) -> int | float:
    try:
        # Python would also read 1_0 and the digits of other scripts.
        number: int | float = kind(item)(text if text.isascii() and "_" not in text else "")
    except ValueError:
        raise UserError(f"{item.name} = {text!r} is not allowed: must be {allowed(item)}") from None
    return number


def _sim(parsed: argparse.Namespace) -> int:
    experiment = _experiment(parsed)
    if experiment.dry_run:
        return _dry_run(experiment, parsed.engine)
    return _conclude(experiment, sim.run(experiment))


def _launch(parsed: argparse.Namespace) -> int:
    from peer.launcher import launch
    from sim.plots import draw_run

    experiment = _experiment(parsed)
    if experiment.dry_run:
        return _dry_run(experiment, parsed.engine)
    summary = launch(experiment)
    draw_run(Path(summary["folder"]))
    return _conclude(experiment, summary)


def _conclude(experiment: Experiment, summary: dict[str, Any]) -> int:
    from sim.closing import closing_words

    if experiment.json:
        print(json.dumps(summary))
    else:
        print(closing_words(summary))
    whole = summary["digests"]["all_equal"] and not summary["missing_peers"]
    return 0 if whole else EXIT_INCOMPLETE


def _dry_run(experiment: Experiment, engine: str) -> int:
    from sim.estimate import estimate, in_words

    cost = estimate(experiment, engine)
    print(json.dumps(cost) if experiment.json else in_words(cost))
    return 0


def _peer(parsed: argparse.Namespace) -> int:
    from peer.by_hand import run_by_hand

    logging.basicConfig(format="kseed: %(message)s", stream=sys.stderr, force=True)
    return 0 if run_by_hand(parsed.file) else EXIT_INCOMPLETE


def _keys(parsed: argparse.Namespace) -> int:
    from peer.keys import PUBLIC, make_keys, secret_name

    peers = experiment_from({"peers": _number(_option("peers"), parsed.peers)}).peers
    make_keys(peers, parsed.to)
    print(
        f"{parsed.to / PUBLIC} is for every peer, {parsed.to / secret_name(0)} for peer 0 alone, "
        "and so on"
    )
    return 0


def _topology(parsed: argparse.Namespace) -> int:
    from topology.drawing import draw

    peers = parsed.peers
    if peers is None and parsed.name in topology.FAMILIES:
        peers = 8
    graph = topology.resolve(parsed.name, peers, degree=parsed.degree, seed=parsed.seed)
    path = parsed.svg or Path(f"{graph.name}-{len(graph.nodes)}.svg")
    draw(graph, path)
    print(topology.describe(graph, topology.measure(graph)))
    print(f"drawn to {path}")
    return 0


def _export(parsed: argparse.Namespace) -> int:
    from peer.export import export

    export(parsed.folder, parsed.to)
    print(f"the tuned model is in {parsed.to}")
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


def _bench(parsed: argparse.Namespace) -> int:
    from sim.bench import bench
    from sim.bench.table import in_words

    given = _given(parsed, bench_options())
    options = BenchOptions(**given)
    logging.basicConfig(format="kseed: %(message)s", stream=sys.stderr, force=True)
    idle = unused_bench_options(parsed.bench, given)
    if idle:
        LOG.warning("without effect in this bench, and ignored: %s", ", ".join(idle))
    report = bench(parsed.bench, options)
    print(json.dumps(report) if options.json else in_words(report))
    return 0


def _init(parsed: argparse.Namespace) -> int:
    try:
        with parsed.file.open("x", encoding="utf-8") as file:
            file.write(commented_toml())
    except OSError as error:
        raise UserError(f"cannot write {parsed.file}: {error.strerror}") from None
    print(f"wrote {parsed.file}; run it with: kseed sim {parsed.file}")
    return 0
