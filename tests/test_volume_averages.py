"""What averaging methods and Ferret send, by formula and in whole simulated runs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from peer.block_count import block_count
from peer.config import Experiment, experiment_from
from peer.errors import UserError
from peer.methods import METHODS
from peer.model_size import model_size
from peer.trained_size import trained_size
from peer.weights_volume import weights_volume
from sim.cli import main
from sim.estimate import estimate
from sim.volume.averages import averages_volume, judge_unseen
from sim.volume.comparison import compare
from sim.volume.copies import exchanges
from sim.volume.measured import measure
from sim.volume.overview import overview
from sim.volume.prediction import Bytes, predict, without_model

AVERAGING = [name for name, method in METHODS.items() if method.averages]
PAYLOAD = ("payload_messages", "payload_bytes", "payload_framing_bytes")
EVERYTHING = (*PAYLOAD, "control_messages", "control_bytes", "control_framing_bytes", "wire_bytes")
GRAPHS = ("line", "ring", "star", "complete", "watts-strogatz", "erdos-renyi")


def experiment(**values: Any) -> Experiment:
    defaults = {"trainer": "synthetic", "peers": 6, "rounds": 3, "method": "fedprompt"}
    return experiment_from(defaults | values)


def same(one: Bytes, other: Bytes, names: tuple[str, ...]) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize("participation", [1.0, 0.4])
@pytest.mark.parametrize("topology", GRAPHS)
def test_a_run_is_as_predicted_to_the_byte(topology: str, participation: float) -> None:
    wanted = experiment(topology=topology, participation=participation, curve="on")
    predicted, measured = predict(wanted), measure(wanted)
    assert predicted.exact
    assert predicted.follows_times
    assert same(predicted, measured, EVERYTHING)
    assert predicted.handshake_bytes == measured.handshake_bytes
    assert predicted.ended_at == measured.ended_at


@pytest.mark.parametrize("participation", [1.0, 0.4])
@pytest.mark.parametrize("method", AVERAGING)
def test_every_method_and_a_server(method: str, participation: float) -> None:
    wanted = experiment(
        method=method,
        topology="star",
        aggregation="server",
        participation=participation,
        rounds=2,
        peers=4,
    )
    predicted = predict(wanted)
    assert predicted.exact
    assert same(predicted, measure(wanted), EVERYTHING)


SETTINGS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["fedprompt", "ferret"]),
        "topology": st.sampled_from(GRAPHS),
        "peers": st.integers(4, 9),
        "rounds": st.integers(1, 6),
        "participation": st.sampled_from([1.0, 0.7, 0.4, 0.1]),
        "local_steps": st.integers(1, 60),
        "step_seconds": st.sampled_from([0.001, 0.02, 0.1, 0.5]),
        "latency": st.sampled_from(["0.01", "0.2", "0.49", "0.7", "lognormal:0.05:0.5"]),
        "tick": st.sampled_from([0.2, 1.0, 3.0]),
        "round_timeout": st.sampled_from([2.0, 20.0, 60.0]),
        "speed_spread": st.sampled_from([0.0, 0.5]),
        "stragglers": st.sampled_from([0.0, 0.3]),
        "virtual_tokens": st.integers(1, 40),
        "seed": st.integers(0, 1000),
        "coordinates": st.integers(1, 300),
        "blocks": st.integers(0, 30),
        "candidate_seeds": st.just(512),
        "gossip": st.sampled_from(["flood", "tree"]),
        "gradient_bytes": st.sampled_from([1, 2, 4]),
    }
)


def holds(values: dict[str, Any], server: bool) -> bool:
    """Hold a promise against a run, if one is given; tell whether it was."""
    if server and values["method"] != "ferret":
        values = {**values, "topology": "star", "aggregation": "server"}
    wanted = experiment(**values)
    predicted, measured = predict(wanted), measure(wanted)
    if predicted.exact:
        assert same(predicted, measured, PAYLOAD)
    if predicted.follows_times and wanted.averages:
        assert same(predicted, measured, EVERYTHING[3:6])
    if wanted.averages and judge_unseen(wanted).exact:
        assert same(predicted, measured, PAYLOAD)
    return predicted.exact


@settings(max_examples=8, deadline=None)
@given(SETTINGS, st.booleans())
def test_no_promise_is_broken(values: dict[str, Any], server: bool) -> None:
    holds(values, server)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(SETTINGS, st.booleans())
def test_no_promise_is_broken_in_many_settings(values: dict[str, Any], server: bool) -> None:
    holds(values, server)


def test_a_run_that_nobody_has_gone_through_is_judged_by_how_long_its_steps_take() -> None:
    wanted = experiment(method="fedmezo", participation=0.5, local_steps=50, rounds=5)
    assert judge_unseen(wanted).exact
    # A step of FedZO takes 1 + 25 passes where MeZO's takes 2, so a round outlasts the time-out.
    assert not judge_unseen(replace(wanted, method="fedzo")).exact
    # How many steps an epoch has hangs on the rows.
    epochs = replace(wanted, method="fedavg", local_epochs=1)
    assert not judge_unseen(epochs).exact
    assert judge_unseen(epochs, (20,) * 6).exact
    assert not judge_unseen(epochs, (20,) * 5 + (200,)).exact


@pytest.mark.parametrize("aggregation", ["gossip", "server"])
@pytest.mark.parametrize("participation", [1.0, 0.3])
def test_counts_are_what_each_peer_is_told_to_send(aggregation: str, participation: float) -> None:
    wanted = experiment(
        topology="star", aggregation=aggregation, participation=participation, peers=9, rounds=20
    )
    prepared = without_model(wanted)
    one = averages_volume(wanted, prepared.protocol.roster, len(prepared.graph.edges))
    assert one == weights_volume(prepared.protocol)
    assert len(list(exchanges(wanted, prepared.protocol.roster, 8))) == 20 * (
        2 if aggregation == "server" else 1
    )


@pytest.mark.parametrize("method", ["fedkseed-infinite", "ferret", "fedzo", "fedprompt"])
def test_a_dry_run_promises_the_payload_of_the_run(method: str, tmp_path: Path) -> None:
    wanted = experiment(
        method=method, participation=0.5, rounds=2, local_steps=3, coordinates=40, blocks=5
    )
    promised = estimate(wanted, "sim")["bytes"]
    values = {name: getattr(wanted, name) for name in ("trainer", "peers", "participation")}
    summary = sim.run(
        method=method,
        rounds=2,
        local_steps=3,
        coordinates=40,
        blocks=5,
        out=str(tmp_path / "run"),
        **values,
    )
    assert promised["payload_exact"]
    assert promised["payload_total"] == summary["bytes"]["payload_total"]


@pytest.mark.parametrize("method", ["fedavg", "fedit", "fedptuning", "fedprompt", "ferret"])
def test_without_a_model_as_much_is_promised_as_with_one(
    method: str, tiny_options: dict[str, Any]
) -> None:
    values = tiny_options | {"method": method, "rounds": 2, "local_steps": 1, "coordinates": 40}
    values = {key: value for key, value in values.items() if key != "out"}
    with_model = estimate(experiment_from(values), "sim")["bytes"]
    without = estimate(experiment_from(values | {"trainer": "synthetic"}), "sim")["bytes"]
    assert with_model["payload_total"] == without["payload_total"]


def test_blocks_of_shapes() -> None:
    # By sorted names no two vectors of a layer are neighbours, so each tensor is a block.
    assert block_count(experiment(method="ferret", model="1.3B")) == 24 * 9 + 3
    assert block_count(experiment(method="ferret", model="3B")) == 26 * 9 + 3
    assert block_count(experiment(method="ferret", model="9B")) == 194
    assert block_count(experiment(method="ferret", model="no such")) == 194
    assert block_count(experiment(method="ferret", blocks=7)) == 7


def test_what_is_trained() -> None:
    whole = model_size("3B").parameters
    assert trained_size(experiment(method="fedavg", model="3B", dtype="bfloat16")).dtype == (
        "bfloat16"
    )
    assert trained_size(experiment(method="fedzo", model="3B")).count == whole
    small = trained_size(experiment(method="fedit", model="3B", dtype="bfloat16", rank=4))
    assert (small.dtype, small.count) == ("float32", 26 * 4 * 4 * 3200)
    prompt = trained_size(experiment(model="3B", virtual_tokens=7))
    assert prompt.count == 7 * 3200
    with pytest.raises(UserError, match=r"'2\.7B': of a soft prompt it is not known"):
        trained_size(experiment(model="2.7B"))


def test_made_up_weights_that_take_no_memory_in_a_prediction_are_refused_in_a_run() -> None:
    wanted = experiment(method="fedavg", model="70B", dtype="bfloat16")
    predicted = predict(wanted)
    assert predicted.exact
    assert predicted.payload_bytes > 2 * 6 * 3 * 2 * 70e9 * 0.95
    with pytest.raises(UserError, match=r"^model = '70B' is not allowed: .*6 peers"):
        measure(wanted)


def test_a_server_and_its_copies_by_gossip_side_by_side() -> None:
    rows = [row for some in compare(experiment(rounds=1)) for row in some]
    assert {row["gossip"] for row in rows} == {"averaging"}
    assert all(row["error"] == 0 for row in rows)
    star = experiment(rounds=1, topology="star", aggregation="server")
    assert {row["gossip"] for some in compare(star) for row in some} == {"server"}


@pytest.mark.parametrize("method", ["fedkseed-infinite", "ferret", "fedzo", "fedptuning"])
def test_an_overview_of_every_method(method: str) -> None:
    wanted = experiment(method=method, rounds=2, coordinates=30, blocks=4, local_steps=5)
    found = overview(wanted, [METHODS[method].system], None)
    assert found.verdict.exact
    assert found.run_payload_bytes == measure(wanted).payload_bytes
    assert (found.spread is None) == wanted.averages


def test_an_overview_of_a_million_peers() -> None:
    wanted = experiment(method="fedavg", peers=10**6, rounds=1, participation=0.01)
    found = overview(wanted, ["fedavg"], None)
    assert found.verdict.exact
    assert found.run_payload_bytes > 2 * 10**6 * 4 * model_size("builtin").parameters


@pytest.mark.parametrize("method", ["fedavg", "ferret", "fedprompt"])
def test_the_row_of_the_method_is_that_of_the_run(method: str) -> None:
    wanted = experiment(
        method=method, rounds=4, participation=0.5, coordinates=30, blocks=4, gossip="tree"
    )
    found = overview(wanted, [method], None)
    (row,) = [row for row in found.rows if row["via"] == "gossip"]
    measured = measure(wanted)
    # Ends and acknowledgements are no rows of any system, and a part's few bytes of head are none.
    assert row["run_bytes"] == pytest.approx(measured.payload_bytes, rel=0.15)
    if method == "fedavg":
        assert row["run_bytes"] == pytest.approx(measured.payload_bytes, rel=1e-4)


@pytest.mark.slow
def test_a_study_over_methods(tmp_path: Path) -> None:
    out = tmp_path / "study"
    given = ["--sweep", f"method={','.join(METHODS)}", "--peers", "4", "--rounds", "1"]
    assert main(["study", *given, "--local-steps", "2", "--out", str(out)]) == 0
    table = (out / "table.csv").read_text()
    assert len(table.splitlines()) == 1 + len(METHODS)
    assert "impossible" not in table
    assert "failed" not in table


def test_averaging_is_counted_without_torch() -> None:
    code = (
        "import sys\n"
        "from peer.config import experiment_from\n"
        "from sim.volume.prediction import predict\n"
        "from sim.volume.measured import measure\n"
        "wanted = experiment_from({'method': 'fedit', 'peers': 3, 'rounds': 1})\n"
        "assert predict(wanted).payload_bytes == measure(wanted).payload_bytes\n"
        "assert not {'torch', 'transformers', 'peft', 'zmq'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=root)


def test_json_of_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--trainer", "synthetic", "--method", "fedit", "--dry-run", "--json"]
    assert main(["sim", *flags]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["bytes"]["payload_exact"]
    wanted = experiment_from({"method": "fedit", "trainer": "synthetic"})
    size = trained_size(wanted)
    assert cost["memory_bytes"] >= replace(wanted).peers * 4 * size.count
