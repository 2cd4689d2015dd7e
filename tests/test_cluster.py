"""Work on a cluster without one: who does what, what losses cost, and what is refused."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from socket import create_server
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.config import WHERE, experiment_from
from peer.errors import RunFailed, UserError
from sim.cli import main
from sim.cluster import crew as crew_module
from sim.cluster.assignments import DEPTH, MOST_LOSSES, Assignments
from sim.cluster.connection import Cluster, Wanted, WorkerLost, connected
from sim.cluster.crew import Crew, Job
from sim.cluster.places import Facts, check, check_paths, facts, paths_named
from sim.cluster.trainer import ClusterTrainer
from sim.study.away import LANDING, _land
from sim.study.setting import NO_SETTING

LAYOUT = {"w0": "0", "parameters": []}
HERE = facts("this", "cpu", LAYOUT)


@settings(max_examples=200)
@given(
    st.integers(1, 4),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 1)), max_size=40),
)
def test_each_job_is_done_once_whatever_workers_are_lost(
    workers: int, jobs: int, plan: list[tuple[int, bool, int]]
) -> None:
    # After the plan nobody is lost any more.
    steps = chain(plan, ((turn, False, 0) for turn in count()))
    assignments: Assignments[int] = Assignments()
    held: dict[int, list[int]] = {worker: [] for worker in range(workers)}
    away: set[int] = set()
    losses = dict.fromkeys(range(jobs), 0)
    done: list[int] = []
    given_up: list[int] = []
    for worker in held:
        assignments.up(worker)
    for job in range(jobs):
        assignments.add(job)
    while len(done) + len(given_up) < jobs:
        for worker, job in assignments.due():
            assert worker not in away
            held[worker].append(job)
        assert all(len(some) <= DEPTH for some in held.values())
        waiting = jobs - len(done) - len(given_up) - sum(map(len, held.values()))
        full = all(len(held[worker]) == DEPTH for worker in held.keys() - away)
        assert not waiting or full
        turn, lost, which = next(steps)
        worker = turn % workers
        if worker in away:
            away.remove(worker)
            assignments.up(worker)
        elif lost:
            if held[worker]:
                losses[held[worker][0]] += 1
            hopeless = assignments.down(worker)
            assert all(losses[job] == MOST_LOSSES for job in hopeless)
            given_up += hopeless
            held[worker] = []
            away.add(worker)
        elif held[worker]:
            job = held[worker].pop(which % len(held[worker]))
            assignments.done(worker, job)
            done.append(job)
    assert sorted(done + given_up) == list(range(jobs))
    assert all(losses[job] < MOST_LOSSES for job in done)


def test_what_nobody_has_begun_can_be_dropped() -> None:
    assignments: Assignments[str] = Assignments(depth=1)
    assignments.up(0)
    assignments.add("a")
    assignments.add("b")
    assert list(assignments.due()) == [(0, "a")]
    assert not assignments.drop("a")
    assert assignments.drop("b")
    assignments.done(0, "a")
    assert list(assignments.due()) == []


class StandIn:
    """A worker whose calls of `train` wait until the test answers them."""

    def __init__(self, there: Facts | BaseException = HERE) -> None:
        self.there = there
        self.pending: list[tuple[Future[Any], Any]] = []
        self.ended = False
        self.came = threading.Semaphore(0)

    def call(self, method: str, *arguments: Any, patiently: bool = False) -> Future[Any]:
        assert patiently == (method == "begun")
        made: Future[Any] = Future()
        if method == "begun":
            made.set_result(None)
        elif method == "ready":
            if isinstance(self.there, BaseException):
                made.set_exception(self.there)
            else:
                made.set_result(self.there)
        else:
            self.pending.append((made, arguments[0]))
            self.came.release()
        return made

    def answer(self) -> None:
        made, number = self.pending.pop(0)
        made.set_result(number**2)

    def lose(self) -> None:
        pending, self.pending = self.pending, []
        for made, _ in pending:
            made.set_exception(WorkerLost("gone"))

    def end(self) -> None:
        self.ended = True


@contextmanager
def mustered(*hands: StandIn) -> Iterator[Crew]:
    crew = Crew(hands)
    try:
        crew.muster("setup", lambda there: check(HERE, there, "m"))
        yield crew
    finally:
        crew.end()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30))
def test_a_crew_gives_each_job_its_own_result(plan: list[tuple[int, bool]]) -> None:
    hands = [StandIn() for _ in range(3)]
    with mustered(*hands) as crew:
        results = [crew.submit(Job("a job", (number,))) for number in range(8)]
        for which, lost in plan:
            hand = hands[which]
            if hand.came.acquire(timeout=0.01) and hand.pending:
                # No more than a job survives.
                hand.lose() if lost and crew.lost < MOST_LOSSES - 1 else hand.answer()
        while not all(result.done() for result in results):
            for hand in hands:
                if hand.pending:
                    hand.answer()
        assert [result.result() for result in results] == [number**2 for number in range(8)]


def test_a_job_that_ends_its_workers_fails_the_run_with_a_way_to_go_on() -> None:
    hand = StandIn()
    with mustered(hand) as crew:
        result = crew.submit(Job("round 3 of peer 5", (1,)))
        for _ in range(MOST_LOSSES):
            assert hand.came.acquire(timeout=10)
            hand.lose()
        with pytest.raises(RunFailed, match=r"round 3 of peer 5 has ended workers 4 times.*--resu"):
            result.result(timeout=10)
        assert crew.lost == MOST_LOSSES


def test_an_error_of_the_work_comes_as_it_was_raised() -> None:
    hand = StandIn()
    with mustered(hand) as crew:
        result = crew.submit(Job("a job", (1,)))
        assert hand.came.acquire(timeout=10)
        made, _ = hand.pending.pop()
        made.set_exception(UserError("of the work"))
        with pytest.raises(UserError, match=r"^of the work$"):
            result.result(timeout=10)


def test_workers_that_end_while_they_load_are_told() -> None:
    with (
        pytest.raises(RunFailed, match="loading the model has ended workers 4 times"),
        mustered(StandIn(WorkerLost("gone"))),
    ):
        pass


def test_a_mistake_on_a_node_is_told_before_the_run_begins() -> None:
    other = replace(HERE, node="far", layout={"w0": "1", "parameters": []})
    with pytest.raises(UserError, match="model = 'm' on node far"), mustered(StandIn(other)):
        pass


def test_a_worker_that_comes_back_to_another_node_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = StandIn(), StandIn()
    with mustered(first, second) as crew:
        results = [crew.submit(Job("a job", (number,))) for number in range(4)]
        assert first.came.acquire(timeout=10)
        first.there = replace(HERE, kseed="another", node="far")
        first.lose()
        while not all(result.done() for result in results):
            if second.pending:
                second.answer()
        assert [result.result() for result in results] == [0, 1, 4, 9]
        assert crew.lost == 1
    assert first.ended
    assert "kseed on node far is not the one that is here" in caplog.text
    assert caplog.text.count("a worker is lost") == 1


def test_without_any_worker_a_run_ends_after_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "PATIENCE", 0.05)
    hand = StandIn()
    with mustered(hand) as crew:
        result = crew.submit(Job("a job", (1,)))
        assert hand.came.acquire(timeout=10)
        hand.call = lambda *_, **__: Future()  # type: ignore[method-assign]
        hand.lose()
        with pytest.raises(RunFailed, match=r"no worker has been there.*--resume"):
            result.result(timeout=10)
        # Who asks later hears the same, and nobody is kept busy until then.
        turns = Counter[None]()
        turn = crew._turn
        monkeypatch.setattr(crew, "_turn", lambda: (turns.update([None]), turn()))
        for number in (2, 3):
            with pytest.raises(RunFailed, match="no worker"):
                crew.submit(Job("a job", (number,))).result(timeout=10)
            crew._thread.join(0.1)
        assert turns.total() <= 6


class Roster:
    def active(self, round_: int) -> tuple[int, ...]:
        return (0, 1, 2) if round_ == 0 else (1, 2)


class Protocol:
    roster = Roster()

    def draw(self, peer: int, round_: int, cut: Cut) -> np.ndarray[Any, Any]:
        return np.array([peer, round_, cut.number])


class Cut:
    def __init__(self, number: int) -> None:
        self.number = number

    def digest(self) -> str:
        return str(self.number)


class Recorder:
    """A crew that does what it is asked for at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.forgotten: list[Job] = []

    def submit(self, job: Job) -> Future[Any]:
        peer, round_, cut, indices = job.arguments
        self.asked.append((peer, round_, cut))
        made: Future[Any] = Future()
        made.set_result(((peer, round_, cut, indices.tolist()), 60.0 + peer))
        return made

    def forget(self, job: Job) -> None:
        self.forgotten.append(job)


@pytest.mark.parametrize("in_step", [True, False])
def test_what_one_peer_announces_says_what_the_others_will_ask_for(in_step: bool) -> None:
    recorder, protocol, cut = Recorder(), Protocol(), Cut(7)
    trainer = ClusterTrainer(
        recorder,  # type: ignore[arg-type]
        lambda cut: f"kept {cut.number}",
        protocol,  # type: ignore[arg-type]
        in_step=in_step,
    )
    trainer.announce(1, 0, cut, protocol.draw(1, 0, cut))
    assert [peer for peer, *_ in recorder.asked] == ([1, 0, 2] if in_step else [1])
    for peer in (2, 0, 1):
        made = trainer.train(peer, 0, cut, protocol.draw(peer, 0, cut))
        assert made == (peer, 0, "kept 7", [peer, 0, 7])
        assert trainer.seconds == 60.0 + peer
    assert len(recorder.asked) == 3
    assert not recorder.forgotten
    # Asked with other arguments than announced: what is asked for counts.
    trainer.announce(1, 1, cut, protocol.draw(1, 1, cut))
    other = Cut(8)
    assert trainer.train(1, 1, other, np.array([5])) == (1, 1, "kept 8", [5])
    assert len(recorder.forgotten) == 1


def test_places_are_held_against_this_one() -> None:
    assert check(HERE, HERE, "m") == []
    late = replace(HERE, clock=HERE.clock - 3 * 3600, node="far")
    assert check(HERE, late, "m") == ["the clock of node far is 3.0 hours behind the one here"]
    assert check(HERE, replace(HERE, clock=HERE.clock + 3000), "m") == []
    [note] = check(HERE, replace(HERE, device="cuda"), "m")
    assert note.startswith("device is cuda on node")
    with pytest.raises(UserError, match="kseed on node far is not the one that is here"):
        check(HERE, replace(late, kseed="another"), "m")


def test_files_that_options_name_have_to_be_the_same(tmp_path: Path) -> None:
    data, model = tmp_path / "rows.jsonl", tmp_path / "model"
    data.write_text("{}")
    (model / "inner").mkdir(parents=True)
    (model / "inner" / "config.json").write_text("{}")
    options = {"topology": "ring", "latency": "0.01", "data": str(data), "model": str(model)}
    wanted = paths_named(options)
    assert set(wanted) == {"data", "model"}
    check_paths("far", options, wanted)
    (model / "inner" / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"model = '.*' is not the same on node far"):
        check_paths("far", options, wanted)
    data.unlink()
    with pytest.raises(UserError, match=r"data = '.*' is not there on node far"):
        check_paths("far", options, wanted)
    assert paths_named(options | {"data": "builtin", "model": "builtin"}) == {}


def test_what_has_come_back_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "settings" / "a").mkdir(parents=True)
    (tmp_path / "settings" / "a" / "half").write_text("of an interrupted run")
    files = {"settings/a/links.csv": b"x", "settings/a.json": b"{}", "settings/b.json": b"no"}
    _land(files, tmp_path, ("settings/a", "settings/a.log", "settings/a.json"))
    there = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert there == ["settings", "settings/a", "settings/a.json", "settings/a/links.csv"]
    assert not (tmp_path / LANDING).exists()


def test_where_a_call_computes_is_no_part_of_a_run() -> None:
    far = experiment_from({"engine": "ray", "ray_address": "h:1", "ray_workers": 3, "ray_gpus": 1})
    assert far.identity() == experiment_from({}).identity()
    assert set(WHERE) <= set(NO_SETTING)
    assert far.on_a_cluster
    assert not replace(far, trainer="synthetic").on_a_cluster


def test_what_workers_do_not_do_is_refused() -> None:
    with pytest.raises(UserError, match="side_by_side = 4 is not allowed"):
        experiment_from({"engine": "ray", "side_by_side": 4})
    with pytest.raises(UserError, match=r"ray_gpus = 0\.0 is not allowed: device = 'cuda'"):
        experiment_from({"engine": "ray", "device": "cuda"})
    with pytest.raises(UserError, match=r"ray_cpus = 1\.5 is not allowed"):
        Wanted.by(experiment_from({"engine": "ray", "ray_cpus": 1.5}))


class Ray:
    """What of Ray tells how much room there is."""

    def __init__(self, nodes: list[dict[str, float]], free: dict[str, float]) -> None:
        self._nodes, self._free = nodes, free

    def remote(self, *_: Any, **__: Any) -> Any:
        return lambda function: function

    def nodes(self) -> list[dict[str, Any]]:
        gone = {"Alive": False, "Resources": {"CPU": 99.0}}
        return [gone, *({"Alive": True, "Resources": node} for node in self._nodes)]

    def available_resources(self) -> dict[str, float]:
        return self._free


@pytest.mark.parametrize(
    ("cpus", "gpus", "asked", "free", "workers"),
    [
        (1.0, 0.0, 0, 12.0, 12),
        (1.0, 0.0, 0, 5.0, 5),
        (1.0, 0.0, 0, 0.0, 1),
        (1.0, 0.0, 3, 0.0, 3),
        (1.0, 0.0, 30, 12.0, 12),
        (4.0, 0.0, 0, 12.0, 3),
        (1.0, 1.0, 0, 12.0, 2),
        (0.5, 0.4, 0, 12.0, 4),
    ],
)
def test_there_are_as_many_workers_as_there_is_room_for(
    cpus: float, gpus: float, asked: int, free: float, workers: int
) -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}]
    ray = Ray(nodes, {"CPU": free, "GPU": 2.0})
    assert Cluster(ray, Wanted("auto", asked, cpus, gpus)).workers() == workers


def test_no_room_for_a_worker_is_told_with_what_there_is() -> None:
    cluster = Cluster(Ray([{"CPU": 8.0}], {}), Wanted("auto", 0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"ray_gpus = 1: no node.* 8 processors, 0 GPUs"):
        cluster.workers()


SIM = ("sim", "--engine", "ray", "--rounds", "1")
STUDY = ("study", "--engine", "ray", "--sweep", "peers=4,5")
COMPARE = ("compare", "--engine", "ray")


@pytest.mark.parametrize("command", [SIM, STUDY, COMPARE], ids=lambda command: command[0])
def test_without_ray_there_is_one_line(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.err == "kseed: engine = 'ray' needs Ray: pip install 'kseed[ray]'\n"
    assert not said.out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", [SIM, STUDY, COMPARE], ids=lambda command: command[0])
@pytest.mark.parametrize("address", ["127.0.0.1", "ray://host:10001", "host:0", "host:70000", ""])
def test_an_address_of_another_form_is_told(
    command: tuple[str, ...], address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--ray-address", address, "--out", str(tmp_path / "out"))
    assert main([*command, *where]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"ray_address = {address!r} is not allowed: must be HOST:PORT, auto or local" in line
    assert not any(tmp_path.iterdir())


def test_an_address_that_does_not_answer_is_told() -> None:
    with create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    refused = pytest.raises(UserError, match=f"ray_address = '{address}': nobody answers there")
    with refused, connected(Wanted(address, 0, 1.0, 0.0)):
        pass


def test_a_host_that_can_have_no_such_name_is_told() -> None:
    refused = pytest.raises(UserError, match=r"ray_address = 'a\.\.b:6379': there is no such host")
    with refused, connected(Wanted("a..b:6379", 0, 1.0, 0.0)):
        pass


def test_an_address_where_something_else_answers_is_told() -> None:
    with create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        refused = pytest.raises(UserError, match="what answers there is no Ray cluster")
        with refused, connected(Wanted(address, 0, 1.0, 0.0)):
            pass
        thread.join()


def test_processes_of_launch_are_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", "--engine", "ray", "--out", str(tmp_path / "out")]) == 2
    assert "engine = 'ray' is not allowed: peers of `kseed launch`" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_options_of_a_cluster_do_nothing_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--sweep", "peers=4,5", "--rounds", "1", "--workers", "1", "--ray-cpus", "2")
    assert main(["study", *flags, "--out", str(tmp_path / "s")]) == 0
    assert "without effect, and ignored: ray_cpus" in capsys.readouterr().err


def test_a_run_without_a_model_stays_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--trainer", "synthetic", "--rounds", "1", "--engine", "ray")
    assert main(["sim", *flags, "--out", str(tmp_path / "s")]) == 0
    assert "without effect in this experiment, and ignored: engine" in capsys.readouterr().err


def test_a_dry_run_leaves_the_cluster_alone(
    tiny_options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nobody answers there.
    flags = [word for key, value in tiny_options.items() for word in (f"--{key}", str(value))]
    where = ("--engine", "ray", "--ray-address", "127.0.0.1:1", "--out", str(tmp_path / "out"))
    command = ["sim", *(flag.replace("_", "-") for flag in flags), *where, "--dry-run"]
    assert main(command) == 0
    assert "That is without the cluster" in capsys.readouterr().out
    assert main([*command, "--engine", "local"]) == 0
    assert "cluster" not in capsys.readouterr().out
    assert not any(tmp_path.iterdir())
