"""Cost models of the papers' systems: golden figures, and what must hold in every setting."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace

import hypothesis
import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import topology
from peer import wire
from peer.config import Experiment
from peer.entry import make_history
from peer.errors import UserError
from peer.model_size import SHAPES, ModelSize, model_size
from peer.seeds import active_peers
from sim.tables import rows_csv
from sim.volume.scalars import SCALARS
from sim.volume.setting import Setting, setting_of
from sim.volume.systems import ALIASES, SYSTEMS, find_system, systems_rows
from sim.volume.table import WIDTH, systems_in_words, systems_json
from sim.volume.tree_sum import breadth_first, sums_bytes
from sim.volume.weights import WEIGHTS
from topology.arrays import links_of

PAPER = Setting(
    model=model_size("llama-3b"),
    peers=738,
    active=37,
    rounds=40,
    local_steps=200,
    candidate_seeds=4096,
    edges=1476,
)
"""FedKSeed's setting on Natural Instructions, on a graph of degree 4."""

WHOLE = replace(PAPER, active=738)
"""The same with everybody in every round."""

D = 3_426_473_600


def row(name, setting=PAPER, via="server"):
    (found,) = (each for each in systems_rows(setting, [name]) if each["via"] == via)
    return found


settings = st.builds(
    Setting,
    model=st.sampled_from([model_size("1.3B"), model_size("3B"), model_size("builtin")]),
    peers=st.integers(2, 10**6),
    active=st.just(1),
    rounds=st.integers(1, 1000),
    local_steps=st.integers(1, 1000),
    candidate_seeds=st.integers(1, 2**17),
    edges=st.just(1),
    gossip=st.sampled_from(["flood", "tree", "antientropy"]),
    weight_bytes=st.sampled_from([2, 4]),
    gradient_bytes=st.sampled_from([1, 2, 4]),
).flatmap(
    lambda setting: st.builds(
        lambda active, edges: replace(setting, active=active, edges=edges),
        st.integers(1, setting.peers),
        st.integers(setting.peers - 1, 8 * setting.peers),
    )
)


def test_every_system_that_is_modelled_is_in_the_table():
    assert set(SYSTEMS.values()) == {*SCALARS, *WEIGHTS}
    assert len(SYSTEMS) == len(SCALARS) + len(WEIGHTS) == 20
    assert {each["system"] for each in systems_rows(PAPER)} == set(SYSTEMS)
    assert all(each.source and each.costs.__doc__ for each in SYSTEMS.values())


@pytest.mark.parametrize(
    ("name", "up", "down"),
    [
        ("fedkseed", 1_600, 16_388),
        ("fedkseed-pro", 1_600, 32_772),
        ("infinite-seeds", 1_600, 1_600 * 738),
        ("fedavg", 4 * D, 4 * D),
        ("fedzo", 4 * D, 4 * D),
        ("fedmezo", 4 * D, 4 * D),
        ("fedit", 10_649_600, 10_649_600),
        ("fedit-sgd", 10_649_600, 10_649_600),
        ("fedptuning", 123_174_400, 123_174_400),
        ("fedprompt", 256_000, 256_000),
        ("ferret", 7_800, 7_800),
        ("fwdllm", 1_600, 10_649_600),
        ("baffle", 16_384, 4 * D),
        ("fedzen", 1_600, 4 * D),
        ("evofed", 16_384, 16_384),
        ("decomfl", 800, 1_600),
        ("fate-fedkseed", 3_200, 114_688),
    ],
)
def test_a_clients_round_with_a_server_to_the_byte(name, up, down):
    found = row(name, WHOLE)
    assert (found["up_bytes"], found["down_bytes"]) == (up, down)
    assert found["round_bytes"] == 738 * (up + down)
    assert found["run_bytes"] == 40 * 738 * (up + down)
    assert found["peer_round_bytes"] == found["edge_round_bytes"] == up + down
    assert (found["round_sends"], found["run_sends"]) == (2 * 738, 40 * 2 * 738)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("fedkseed", 4096),
        ("fedkseed-pro", 4096),
        ("infinite-seeds", 200 * 40 * 738),
        ("fedavg", 0),
        ("fedit", 0),
        ("ferret", 3_900 / 194),
        ("evofed", 4096),
        ("decomfl", 200),
        ("fate-fedkseed", 4096),
    ],
)
def test_the_steps_to_the_latest_model(name, steps):
    found = row(name, WHOLE)
    assert found["latest_multiply_adds"] == pytest.approx(steps * D, rel=1e-12)
    assert found["latest_per_weight"] == pytest.approx(steps, rel=1e-12)


@pytest.mark.parametrize("name", ["evofed", "decomfl", "ferret", "infinite-seeds"])
def test_who_missed_rounds_gets_what_was_sent_in_them(name):
    rarely, always = row(name, replace(PAPER, active=41)), row(name, replace(WHOLE, rounds=40))
    share = 18 if name != "infinite-seeds" else 1
    assert rarely["up_bytes"] == always["up_bytes"]
    assert rarely["down_bytes"] == pytest.approx(share * always["down_bytes"])
    if name != "infinite-seeds":
        assert rarely["latest_per_weight"] == pytest.approx(18 * always["latest_per_weight"])


def test_the_steps_of_others_do_not_grow_with_missed_rounds_or_with_the_run():
    later = replace(PAPER, rounds=4_000, active=1)
    assert row("fedkseed", later)["latest_per_weight"] == 4096
    assert row("infinite-seeds", later)["latest_per_weight"] == 200 * 4_000
    assert row("fedkseed", later)["down_bytes"] == 16_388


@pytest.mark.parametrize(
    ("name", "memory", "weights"),
    [
        ("fedkseed", "M_infer", D),
        ("fedavg", "M_full", 2 * D),
        # An adapter's numbers are of 4 bytes beside a model's of 2.
        ("fedit", "M_peft", D + 2 * 4 * 2_662_400),
        ("fedit-sgd", "M_peft", D + 2 * 2 * 2_662_400),
        ("ferret", "M_full", 2 * D),
        ("evofed", "M_full", 2 * D),
        ("fwdllm", "M_infer", D + 2_662_400),
        ("fate-fedkseed", "2 M_infer", 2 * D),
    ],
)
def test_memory_is_weights_gradients_and_optimiser(name, memory, weights):
    found = row(name, replace(PAPER, weight_bytes=2))
    assert (found["memory"], found["memory_bytes"]) == (memory, 2 * weights)


@pytest.mark.parametrize(
    ("gossip", "copies"), [("flood", 2 * 1476 - 738 + 1), ("tree", 737), ("antientropy", 737)]
)
def test_entries_are_sent_as_often_as_their_mode_says(gossip, copies):
    found = row("fedkseed", replace(PAPER, gossip=gossip, entry_bytes=225), "gossip")
    assert found["round_sends"] == 37 * copies
    assert found["round_bytes"] == 37 * copies * 225
    assert found["edge_round_bytes"] == 37 * copies * 225 / 1476
    assert found["peer_round_bytes"] == pytest.approx(2 * 37 * copies * 225 / 738)
    assert found["up_bytes"] == found["down_bytes"]


def test_our_entries_hold_the_indices_of_seeds_only_where_they_do_not_follow():
    plain, pro = (row(name, PAPER, "gossip") for name in ("fedkseed", "fedkseed-pro"))
    assert pro["round_bytes"] - plain["round_bytes"] == 37 * 737 * 200 * 2


def test_all_clients_of_fate_take_part_in_each_round():
    assert row("fate-fedkseed") == row("fate-fedkseed", WHOLE)
    assert row("fate-fedkseed")["round_sends"] == 2 * 738


def test_flooding_sends_as_often_as_a_flood_on_the_graph_does():
    graph = topology.build("watts-strogatz", 30, degree=4, seed=3)
    sends, seen, waiting = 0, {7}, [(7, None)]
    while waiting:
        peer, sender = waiting.pop(0)
        for other in graph.neighbours(peer):
            if other != sender:
                sends += 1
                if other not in seen:
                    seen.add(other)
                    waiting.append((other, peer))
    experiment = Experiment(topology="watts-strogatz", peers=30, gossip="flood", participation=0.01)
    setting = setting_of(experiment, graph)
    assert setting.active == 1
    assert row("fedkseed", setting, "gossip")["round_sends"] == sends


def test_averaging_sends_the_weights_both_ways_over_each_link():
    found = row("fedavg", PAPER, "gossip")
    assert found["round_sends"] == 2 * 1476
    assert found["edge_round_bytes"] == 2 * 4 * D
    assert found["latest_per_weight"] == 5, "a peer and its four neighbours"
    assert row("fedavg", replace(PAPER, active=1), "gossip") == found, "all average, active or not"


def test_seedflood_floods_a_pair_for_each_peer_and_step():
    found = row("seedflood", WHOLE, "gossip")
    assert found["round_sends"] == 738 * 200 * (2 * 1476 - 738 + 1)
    assert found["round_bytes"] == 8 * found["round_sends"]


def test_blockddl_needs_a_copy_for_every_receiver():
    found = row("blockddl", PAPER, "gossip")
    assert found["round_bytes"] == 37 * 737 * 4 * D


@pytest.mark.parametrize("tau", [1, 20, 200])
def test_the_sum_along_a_tree_is_that_of_its_model(tau):
    graph = topology.build("torus", 100)
    experiment = Experiment(topology="torus", peers=100, local_steps=tau, candidate_seeds=4096)
    found = row("tree-sum", setting_of(experiment, graph), "gossip")
    model = sums_bytes(breadth_first(links_of(graph)), tau, 4096)
    assert found["round_bytes"] == pytest.approx(model.total)
    assert found["round_sends"] == 2 * 99


def test_a_tree_that_is_not_known_is_taken_as_the_worst():
    graph = topology.build("torus", 100)
    known = setting_of(Experiment(topology="torus", peers=100), graph)
    unknown = replace(known, subtrees=())
    worst = row("tree-sum", unknown, "gossip")
    assert worst["round_bytes"] > row("tree-sum", known, "gossip")["round_bytes"]
    assert "tree is not known" in worst["note"]


@pytest.mark.parametrize("name", ["ring", "star", "torus", "tree", "line"])
def test_subtrees_are_those_of_shortest_paths(name):
    graph = topology.build(name, 16)
    sizes = setting_of(Experiment(), graph).subtrees
    lengths = nx.single_source_shortest_path_length(graph.graph, 0)
    # A peer counts once on each link between it and the root.
    assert len(sizes) == 15
    assert sum(sizes) == sum(lengths.values())


@hypothesis.settings(deadline=None)
@given(settings)
def test_totals_agree_in_every_setting(setting):
    for found in systems_rows(setting):
        if found["round_bytes"] is None:
            assert found["run_bytes"] is found["peer_round_bytes"] is None
            continue
        links = setting.peers if found["via"] == "server" else setting.edges
        ends = 1 if found["via"] == "server" else 2
        total = found["round_bytes"]
        assert total > 0
        assert found["peer_round_bytes"] * setting.peers == pytest.approx(ends * total)
        assert found["edge_round_bytes"] * links == pytest.approx(total)
        assert found["run_bytes"] == pytest.approx(setting.rounds * total)
        assert found["run_sends"] == setting.rounds * found["round_sends"]
        assert found["latest_multiply_adds"] >= 0
        assert found["memory_bytes"] >= setting.model.parameters * setting.weight_bytes


OF_THE_MODEL = {
    *("fedavg", "fedzo", "fedmezo", "fedit", "fedit-sgd", "fedptuning", "fedprompt"),
    *("fwdllm", "baffle", "fedzen", "blockddl"),
}


@hypothesis.settings(deadline=None)
@given(settings)
def test_bytes_depend_on_the_model_only_where_weights_are_sent(setting):
    small, large = (replace(setting, model=model_size(name)) for name in ("1.3B", "65B"))
    for one, other in zip(systems_rows(small), systems_rows(large), strict=True):
        if one["system"] in OF_THE_MODEL and one["round_sends"] is not None:
            assert one["round_bytes"] < other["round_bytes"]
        else:
            assert one["round_bytes"] == other["round_bytes"]


@hypothesis.settings(deadline=None)
@given(settings, st.integers(1, 1000))
def test_more_peers_cost_more_by_gossip_and_nothing_gets_cheaper(setting, more):
    active = replace(setting, active=setting.peers)
    larger = replace(
        active,
        peers=setting.peers + more,
        active=setting.peers + more,
        edges=setting.edges + 2 * more,
    )
    for one, other in zip(systems_rows(active), systems_rows(larger), strict=True):
        if one["round_bytes"] is not None:
            assert one["round_bytes"] < other["round_bytes"], one["system"]
            assert one["round_sends"] < other["round_sends"]


@hypothesis.settings(deadline=None)
@given(settings)
def test_the_bytes_of_a_seed_count_where_k_does(setting):
    more = replace(setting, candidate_seeds=2 * setting.candidate_seeds)
    for name in ("fedkseed", "fedkseed-pro", "evofed", "baffle", "fate-fedkseed"):
        assert row(name, more)["round_bytes"] > row(name, setting)["round_bytes"]
    assert row("infinite-seeds", more) == row("infinite-seeds", setting)
    assert row("decomfl", more) == row("decomfl", setting)
    assert (
        row("fedkseed", more, "gossip")["round_bytes"]
        == (row("fedkseed", setting, "gossip")["round_bytes"])
    )


def test_adapters_without_a_shape_are_not_guessed():
    counted = replace(PAPER, model=ModelSize("2.7B", 2_700_000_000))
    for name in ("fedit", "fedit-sgd", "fedptuning", "fedprompt", "fwdllm"):
        found = row(name, counted)
        assert found["round_bytes"] is found["run_bytes"] is found["memory_bytes"] is None
        assert "not known without the model's shape" in found["note"]
        assert "not known" not in row(name)["note"]
    assert row("fedavg", counted)["up_bytes"] == 4 * 2_700_000_000


def test_what_needs_a_server_says_why():
    for name in ("fwdllm", "baffle", "fedzen", "fate-fedkseed"):
        found = row(name, via="gossip")
        assert f"not without a server: {found['how']}" in " ".join(
            systems_in_words(PAPER, [found]).split()
        )
        assert found["round_bytes"] is found["round_sends"] is found["memory"] is None
    without = {each["system"] for each in systems_rows(PAPER)} - {
        each["system"] for each in systems_rows(PAPER) if each["via"] == "server"
    }
    assert without == {"blockddl", "seedflood", "tree-sum"}


def test_names_are_taken_in_any_case_and_by_their_other_names():
    assert find_system(" FedKSeed-PRO ").name == "fedkseed-pro"
    assert find_system("infinite seeds").name == "infinite-seeds"
    for alias, name in ALIASES.items():
        assert find_system(alias) is SYSTEMS[name]
    assert [each["system"] for each in systems_rows(PAPER, ["d-psgd"])] == ["fedavg", "fedavg"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("fedseed", "did you mean fedkseed"), ("feret", "ferret"), ("", "there are fedkseed, ")],
)
def test_an_unknown_system_is_told_with_near_names(name, hint):
    with pytest.raises(UserError, match=hint) as caught:
        systems_rows(PAPER, ["fedavg", name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("peers", "participation"), [(8, 1.0), (738, 0.05), (10, 0.25), (9, 0.01)])
def test_a_setting_is_what_the_experiment_says(peers, participation):
    experiment = Experiment(
        topology="ring",
        peers=peers,
        participation=participation,
        rounds=3,
        local_steps=7,
        candidate_seeds=99,
        dtype="bfloat16",
        gradient_bytes=1,
        gossip="flood",
        model="350M",
    )
    setting = setting_of(experiment, topology.build("ring", peers), entry_bytes=77)
    assert setting.active == len(active_peers(0, peers, participation, 0))
    assert setting.edges == peers
    assert (setting.rounds, setting.local_steps, setting.candidate_seeds) == (3, 7, 99)
    assert (setting.weight_bytes, setting.gradient_bytes, setting.gossip) == (2, 1, "flood")
    assert setting.model == ModelSize("350M", 350_000_000)
    assert (setting.history_bytes, setting.pro_entry_bytes) == (77, None)


def test_a_pros_entry_is_its_own():
    graph = topology.build("ring", 8)
    setting = setting_of(Experiment(), graph, entry_bytes=77.5, pro_entry_bytes=99)
    assert (setting.history_bytes, setting.pro_history_bytes) == (77.5, 99)


def test_a_model_of_no_known_size_is_refused():
    with pytest.raises(UserError, match="its size is not known"):
        setting_of(Experiment(model="org/not-here"), topology.build("ring", 8))


def test_a_graph_that_varies_is_refused():
    with pytest.raises(topology.TopologyError, match="varies over time"):
        setting_of(Experiment(), topology.resolve("one-peer-exponential", 8))


def test_a_graph_that_is_not_made_has_the_links_of_its_family():
    made = setting_of(Experiment(), topology.build("ring", 8))
    assert replace(made, subtrees=()) == setting_of(Experiment(topology="ring", peers=8), None)


@pytest.mark.parametrize("tau", [1, 50, 200, 5000])
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("seeds", [2**16, 2**16 + 1])
def test_the_length_taken_for_an_entry_is_near_a_frames(tau, width, seeds):
    setting = replace(PAPER, local_steps=tau, gradient_bytes=width, candidate_seeds=seeds)
    for length, index in ((setting.history_bytes, 0), (setting.pro_history_bytes, 2)):
        index *= 1 if seeds <= 2**16 else 2
        entry = make_history(
            200,
            30,
            39,
            weight=1.0,
            cut=bytes(8),
            scale=0,
            gradients=bytes(width * tau),
            indices=bytes(index * tau) if index else None,
        )
        frame = len(wire.encode(wire.Entries((entry,))))
        assert abs(frame - length) <= 13


def test_the_table_for_people_fits_and_shows_exact_bytes_below_a_megabyte():
    for setting in (PAPER, WHOLE, replace(PAPER, gossip="antientropy", model=model_size("65B"))):
        rows = systems_rows(setting)
        text = systems_in_words(setting, rows)
        assert max(map(len, text.splitlines())) <= 120
        for name, system in SYSTEMS.items():
            assert text.count(f"\n{name} ") == sum(
                each["system"] == name and each["round_sends"] is not None for each in rows
            )
            assert system.title in text
    assert WIDTH <= 120
    text = systems_in_words(PAPER, systems_rows(PAPER, ["fedkseed", "fedavg"]))
    assert "1,600 B" in text
    assert "16,388 B" in text
    assert "13.7 GB" in text
    assert "download" in text


def test_what_is_not_known_is_shown_as_a_question_mark():
    counted = replace(PAPER, model=ModelSize("2.7B", 2_700_000_000))
    text = systems_in_words(counted, systems_rows(counted, ["fedit"]))
    line = next(each for each in text.splitlines() if each.startswith("fedit"))
    assert line.split()[1:6] == ["?"] * 5


def test_json_and_csv_hold_the_rows_as_they_are():
    rows = systems_rows(PAPER)
    printed = json.loads(json.dumps(systems_json(PAPER, rows)))
    assert printed["rows"] == rows
    assert printed["setting"]["model"]["parameters"] == D
    assert "subtrees" not in printed["setting"]
    read = list(csv.DictReader(io.StringIO(rows_csv(rows))))
    assert list(read[0]) == list(rows[0])
    for line, found in zip(read, rows, strict=True):
        for key, value in found.items():
            assert line[key] == ("" if value is None else str(value))
    assert {"up_bytes", "round_sends", "run_sends"} <= set(rows[0])


def test_no_row_has_other_keys_than_the_others():
    assert len({tuple(each) for each in systems_rows(PAPER)}) == 1
    assert rows_csv([]) == "\n"


def test_cost_models_load_neither_torch_nor_matplotlib():
    program = (
        "import sys, sim.volume.table, sim.volume.systems, sim.volume.papers;"
        "sys.exit(bool({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_shapes_of_the_papers_models_are_those_of_the_tables():
    assert SHAPES["llama-3b"].parameters == D
