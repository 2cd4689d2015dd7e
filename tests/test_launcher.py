"""Runs of real processes, held against the simulator."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from scenarios.gate import Gate
from scenarios.processes import end_of, flags, kseed, run

from peer.config import experiment_from
from sim.runner import simulate

SMALL = {
    "trainer": "synthetic",
    "peers": 4,
    "rounds": 3,
    "local_steps": 5,
    "candidate_seeds": 64,
    "out": "run",
}

slow = pytest.mark.slow
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="its scenarios look at processes through /proc"
)


def launch(**options: Any) -> list[str]:
    """The command's arguments for a small run."""
    return ["launch", "--json", *flags(SMALL | options)]


def simulated(folder: Path, **options: Any) -> dict[str, Any]:
    return simulate(experiment_from(SMALL | options | {"out": str(folder / "simulated")}))


def keys(values: Mapping[str, Any], above: str = "") -> set[str]:
    inner = [keys(v, f"{above}{k}.") for k, v in values.items() if isinstance(v, dict)]
    return {above + key for key in values}.union(*inner)


def rounds_of(folder: Path) -> list[tuple[str, Any]]:
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    return [(line["accumulator"], line["eval_loss"]) for line in map(json.loads, lines)]


def assert_same_run(launched: Mapping[str, Any], simulated: Mapping[str, Any]) -> None:
    """A launched run, in the folder `run`, is the simulated one (C5)."""
    assert launched["digests"] == simulated["digests"]
    assert launched["digests"]["all_equal"]
    assert launched["entries"] == simulated["entries"]
    for name in ("payload_total", "lower_bound_payload_total", "redundancy"):
        assert launched["bytes"][name] == simulated["bytes"][name]
    assert launched["eval_loss"] == simulated["eval_loss"]
    for summary in launched, simulated:
        assert summary["timeouts_fired"] == 0
        assert summary["rejected_messages"] == 0
        assert summary["missing_peers"] == []
    assert keys(launched) - keys(simulated) == {"processes"}
    only_simulated = {key for key in keys(simulated) if key.partition(".")[0] == "network"}
    assert keys(simulated) - keys(launched) == only_simulated | {"seconds.virtual"}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"topology": "ring", "peers": 4}, marks=slow),
        {
            "topology": "torus",
            "peers": 6,
            "method": "fedkseed-pro",
            "participation": 0.5,
            "gradient_bytes": 1,
        },
        {
            "topology": "barabasi-albert",
            "peers": 8,
            "degree": 2,
            "gradient_bytes": 2,
            "curve": "on",
        },
    ],
    ids=["ring", "torus", "barabasi-albert"],
)
def test_processes_and_simulator_agree(tmp_path: Path, options: dict[str, Any]) -> None:
    end = run(*launch(**options), folder=tmp_path, pictures=True)
    assert end.status == 0
    summary, expected = end.summary, simulated(tmp_path, **options)
    assert_same_run(summary, expected)
    assert summary["bytes"]["handshake_total"] == expected["bytes"]["handshake_total"]
    assert rounds_of(tmp_path / "run") == rounds_of(tmp_path / "simulated")
    processes = summary["processes"]
    assert [process["peer"] for process in processes] == list(range(options["peers"]))
    assert len({process["address"] for process in processes}) == options["peers"]
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process["pid"], 0)
    names = {path.name for path in (tmp_path / "simulated").iterdir()} - {"sim"} | {"launch"}
    # Pictures are the command's, not the engine's.
    assert {path.name for path in (tmp_path / "run").iterdir()} == names | {"plots"}


@slow
@pytest.mark.parametrize(
    "options",
    [
        {"peers": 4, "method": "fedkseed-pro", "dtype": "bfloat16", "perturbation": "rademacher"},
        {"peers": 8, "topology": "complete", "partition": "iid", "batch_size": 2},
    ],
    ids=["pro", "eight"],
)
def test_processes_and_simulator_train_the_same_model(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, options: dict[str, Any]
) -> None:
    options |= {
        "trainer": "zeroth-order",
        "model": str(tiny_model),
        "data": str(tiny_data),
        "eval_rows": 12,
        "learning_rate": 1e-3,
    }
    end = run(*launch(**options), folder=tmp_path)
    assert end.status == 0
    expected = simulated(tmp_path, **options)
    assert_same_run(end.summary, expected)
    assert len(end.summary["digests"]["model"]) == options["peers"]
    assert end.summary["eval_loss"]["final"] != end.summary["eval_loss"]["initial"]
    assert rounds_of(tmp_path / "run") == rounds_of(tmp_path / "simulated")


def imports(module: str, reports: Iterable[str]) -> int:
    """How many processes have imported a module, by what -X importtime has said of them."""
    line = re.compile(rf"^import time:.*\| +{re.escape(module)}$", re.MULTILINE)
    return sum(len(line.findall(report)) for report in reports)


def reports_of(folder: Path, options: dict[str, Any]) -> list[str]:
    """What the processes of a run have said of their imports."""
    told = {"PYTHONPROFILEIMPORTTIME": "1"}
    with kseed(*launch(**options), folder=folder, environment=told) as process:
        end = end_of(process)
    assert end.status == 0
    outputs = [path.read_text() for path in folder.glob("run/launch/peer-*/output.log")]
    assert len(outputs) == options.get("peers", SMALL["peers"])
    return [end.err, *outputs]


def test_nobody_imports_torch_without_a_model(tmp_path: Path) -> None:
    reports = reports_of(tmp_path, {})
    assert imports("torch", reports) == 0
    # The launcher and the server that peers are forked from.
    assert imports("peer.process", reports) == 2


@slow
def test_all_peers_share_one_import_of_torch(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
) -> None:
    real = {"trainer": "zeroth-order", "model": tiny_model, "data": tiny_data, "eval_rows": 12}
    reports = reports_of(tmp_path, real)
    for module in ("torch", "numba", "transformers.modeling_utils"):
        assert imports(module, reports) == 2
    # Nothing is left of either for a peer to import, not even the model's own module.
    for output in reports[1:]:
        assert not re.search(r"^import time:.*\| +(torch|transformers)\b", output, re.MULTILINE)


@slow
def test_a_finished_run_is_continued_with_more_rounds(tmp_path: Path) -> None:
    first = run(*launch(), folder=tmp_path).summary
    again = run(*launch(resume=True), folder=tmp_path).summary
    assert again["digests"] == first["digests"] == simulated(tmp_path)["digests"]
    more = run(*launch(resume=True, rounds=5), folder=tmp_path).summary
    assert more["digests"] == simulated(tmp_path, rounds=5, resume=True)["digests"]
    assert more["digests"] != first["digests"]
    assert rounds_of(tmp_path / "run") == rounds_of(tmp_path / "simulated")


@slow
def test_what_comes_late_is_not_lost(tmp_path: Path) -> None:
    options = {"round_timeout": 0.2, "settle_timeout": 30.0}
    with (
        Gate() as gate,
        kseed(*launch(**options), folder=tmp_path, environment=gate.environment) as process,
    ):
        gate.hold("trains 2 1")
        # The END of each of the others.
        gate.hold("stored 0 3", "stored 1 3", "stored 3 3")
        gate.open()
        end = end_of(process)
    assert end.status == 0
    assert end.summary["timeouts_fired"] >= 3
    # These histories do not hang on the cut that they start from.
    assert end.summary["digests"] == simulated(tmp_path)["digests"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"topology": "rung"}, "rung"),
        ({"peers": 1}, "peers = 1 is not allowed"),
        ({"resume": True, "out": ""}, "resume = True is not allowed"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    end = run(*launch(**options), folder=tmp_path)
    assert (end.status, end.out) == (2, "")
    assert re.fullmatch(f"kseed: .*{re.escape(told)}.*\n", end.err)
    assert list(tmp_path.iterdir()) == []


@slow
def test_many_peers_on_few_processors(tmp_path: Path) -> None:
    options = {"topology": "watts-strogatz", "peers": 24, "rounds": 20, "local_steps": 50}
    end = run(*launch(**options), folder=tmp_path)
    assert end.status == 0
    assert_same_run(end.summary, simulated(tmp_path, **options))


@linux
@slow
@pytest.mark.parametrize("name", ["interrupted", "by_hand", "crowd"])
def test_scenarios_end_well(tmp_path: Path, name: str) -> None:
    script = Path(__file__).parent / "scenarios" / f"{name}.py"
    told = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert (told.returncode, told.stderr) == (0, "")
