"""Which rows are held out, left out, drawn and dealt: the papers' division of data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from peer.choices import PARTITIONS
from peer.data.division import BY_TASK, Division, Split, count_training_tasks, divide
from peer.data.encode import Encoded
from peer.data.held_out import held_out_rows, tasks_of
from peer.data.partition import KINDS, hold_out, partition
from peer.data.rows import load_rows
from peer.declarations import options
from peer.errors import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"
DOLLY = SHARED / "dolly15k" / "databricks-dolly-15k.jsonl"
TASKS = SHARED / "natural-instructions-mini"

seeds = st.integers(0, 2**64 - 1)
labels = st.lists(st.integers(0, 5), min_size=1, max_size=80)


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.exists(), reason=f"{path.name} is not on this machine")


def same(left: list[NDArray[np.int64]], right: list[NDArray[np.int64]]) -> bool:
    return len(left) == len(right) and all(map(np.array_equal, left, right))


def labelled(
    categories: Sequence[object], tasks: Sequence[str] = (), test_tasks: tuple[str, ...] = ()
) -> Encoded:
    """Rows of one token each, with these labels."""
    n = len(categories)

    def codes(own: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        names, places = np.unique(own, return_inverse=True)
        return tuple(names.tolist()), places.astype(np.int32)

    category_names, category_codes = codes([str(category) for category in categories])
    task_names, task_codes = codes(tasks or [""] * n)
    return Encoded(
        tokens=np.zeros(n, dtype=np.int32),
        offsets=np.arange(n + 1),
        prompt_lengths=np.zeros(n, dtype=np.int32),
        categories=category_codes,
        category_names=category_names,
        tasks=task_codes,
        task_names=task_names,
        cut_away=0,
        test_tasks=test_tasks,
    )


def split(
    categories: Sequence[object], kind: str, peers: int, alpha: float, eval_rows: int, seed: int
) -> Split:
    wanted = Division(partition=kind, peers=peers, alpha=alpha, eval_rows=eval_rows, seed=seed)
    return divide(labelled(categories), wanted)


def wanted(**options: Any) -> Division:
    defaults: dict[str, Any] = {"partition": "iid", "peers": 2, "alpha": 0.5, "seed": 3}
    return Division(**{**defaults, "eval_rows": 0, **options})


def refused(encoded: Encoded, division: Division) -> str:
    with pytest.raises(UserError) as caught:
        divide(encoded, division)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def test_options_and_the_division_have_the_same_words() -> None:
    assert [*KINDS, BY_TASK] == list(PARTITIONS)
    defaults = {item.name: item.default for item in options()}
    for item in fields(Division):
        if item.default is not MISSING:
            assert defaults[item.name] == item.default


# Random rows held out


@settings(deadline=None)
@given(st.sampled_from(KINDS), labels.filter(lambda own: len(own) > 1), st.data(), seeds)
def test_split_is_hold_out_then_partition(
    kind: str, categories: list[int], data: st.DataObject, seed: int
) -> None:
    eval_rows = data.draw(st.integers(0, len(categories) - 1))
    peers = data.draw(st.integers(1, len(categories) - eval_rows))
    found = split(categories, kind, peers, 0.5, eval_rows, seed)
    train, held_out = hold_out(len(categories), eval_rows, seed)
    assert np.array_equal(found.held_out, held_out)
    assert np.array_equal(np.sort(np.concatenate(found.shards)), train)
    places = partition(kind, np.take(categories, train), peers, 0.5, seed)
    assert same(found.shards, [train[own] for own in places])


def test_too_few_rows_after_hold_out_names_both_numbers() -> None:
    with pytest.raises(UserError, match=r"^3 rows for 4 peers; "):
        split([0] * 10, "iid", 4, 1.0, 7, 0)


def test_golden_split() -> None:
    """A change here changes which peer trains on what in every experiment."""
    categories = [0, 1, 2, 2, 1, 0, 2, 2, 0, 1, 2, 2]
    found = {
        kind: [shard.tolist() for shard in split(categories, kind, 3, 0.5, 2, 42).shards]
        for kind in KINDS
    }
    assert split(categories, "iid", 3, 0.5, 2, 42).held_out.tolist() == [2, 10]
    assert found == {
        "iid": [[3, 4, 5, 11], [6, 7, 8], [0, 1, 9]],
        "dirichlet": [[4, 5, 9, 11], [0, 3, 6, 7, 8], [1]],
        "by-category": [[3, 6, 7, 11], [1, 4, 9], [0, 5, 8]],
    }


# Tasks held out

MIXED = labelled(
    [c for c, n in (("Sums", 30), ("Talk", 40), ("Verse", 10)) for _ in range(n)],
    [t for t, n in (("t1", 20), ("t2", 10), ("t3", 25), ("t4", 15), ("t5", 10)) for _ in range(n)],
    ("t2", "t4", "t9"),
)
"""Of category Sums tasks t1 and t2, of Talk t3 and t4, of Verse t5."""


def held(encoded: Encoded, held_out: str) -> set[str]:
    names, tasks = tasks_of(encoded)
    return {names[task] for task in tasks[held_out_rows(encoded, held_out)]}


@pytest.mark.parametrize(
    ("held_out", "tasks"),
    [
        ("last", {"t5"}),
        ("test", {"t2", "t4"}),
        ("t3", {"t3"}),
        ("Talk", {"t3", "t4"}),
        ("Talk,t1", {"t1", "t3", "t4"}),
        (" t1 , Verse ", {"t1", "t5"}),
    ],
)
def test_whole_tasks_are_held_out(held_out: str, tasks: set[str]) -> None:
    assert held(MIXED, held_out) == tasks
    found = divide(MIXED, wanted(held_out=held_out))
    everything = np.concatenate([found.held_out, *found.shards])
    assert np.array_equal(np.sort(everything), np.arange(80))
    names = np.take(MIXED.task_names, MIXED.tasks[found.held_out])
    assert set(names.tolist()) == tasks


def test_where_there_are_no_tasks_categories_are_the_tasks() -> None:
    encoded = labelled(["qa", "summaries", "chat", "qa"])
    assert held(encoded, "last") == {"summaries"}
    assert held(encoded, "chat") == {"chat"}


def test_a_name_may_have_a_comma_in_it() -> None:
    assert held(labelled(["a, b", "a", "b", "c"]), "a, b") == {"a, b"}
    assert held(labelled(["a", "b", "c"]), "a, b") == {"a", "b"}


@pytest.mark.parametrize(
    ("encoded", "held_out", "why"),
    [
        (MIXED, "Tolk", "the data has no task or category 'Tolk'; did you mean Talk?"),
        (
            labelled([f"kind {i}" for i in range(12)]),
            "xyz",
            "the data has no task or category 'xyz'; there are kind 0, kind 1, kind 10, kind 11,"
            " kind 2, kind 3, kind 4, kind 5 and 4 more",
        ),
        (
            MIXED,
            "",
            "the data has no task or category ''; there are Sums, Talk, Verse, t1, t2, t3, t4, t5",
        ),
        (
            MIXED,
            "t1,,t2",
            "the data has no task or category ''; there are Sums, Talk, Verse, t1, t2, t3, t4, t5",
        ),
        (labelled([""] * 4), "k", "the data has no task or category 'k'; there are none"),
        (
            labelled(["a", "b"]),
            "test",
            "no task of the data is for tests; a folder with tasks/ and splits/ in it says which"
            " are",
        ),
        (
            labelled(["a"] * 2, ["t1", "t2"], ("t3", "t4")),
            "test",
            "max_length leaves no row of the 2 test tasks",
        ),
        (labelled(["a"] * 3), "last", "it leaves no row to train on; the data has a"),
        (
            labelled([""] * 3),
            "last",
            "it leaves no row to train on; the data has one without a name",
        ),
        (labelled(["a", "b"]), "a,b", "it leaves no row to train on; the data has a, b"),
    ],
)
def test_what_cannot_be_held_out_is_told(encoded: Encoded, held_out: str, why: str) -> None:
    line = refused(encoded, wanted(held_out=held_out))
    assert line == f"held_out = {held_out!r} is not allowed: {why}"


@given(st.integers(0, 60), seeds)
def test_at_most_so_many_held_out_rows_are_evaluated(eval_rows: int, seed: int) -> None:
    every = np.flatnonzero(held_out_rows(MIXED, "Talk"))
    found = divide(MIXED, wanted(held_out="Talk", eval_rows=eval_rows, seed=seed))
    assert len(found.held_out) == min(eval_rows or 40, 40)
    assert set(found.held_out) <= set(every)
    assert np.array_equal(found.held_out, np.sort(found.held_out))
    # What is not evaluated is not trained on either.
    assert sum(map(len, found.shards)) == 40


# Shares

tasks_lists = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=2, max_size=60)
shares = st.floats(0.0, 1.0, exclude_min=True)


@settings(deadline=None)
@given(tasks_lists, shares, shares, st.integers(1, 8), seeds)
def test_of_each_task_a_share_is_drawn(
    tasks: list[str], train: float, test: float, least: int, seed: int
) -> None:
    encoded = labelled([""] * len(tasks), tasks)
    if len(set(tasks)) == 1:
        return
    division = wanted(
        held_out="last", train_share=train, test_share=test, seed=seed, peers=1, min_rows=1
    )
    found = divide(encoded, division)
    last = max(tasks)
    drawn = np.take(tasks, np.concatenate(found.shards)).tolist()
    for task in set(tasks) - {last}:
        assert drawn.count(task) == max(1, round(train * tasks.count(task)))
    assert last not in drawn
    assert len(found.held_out) == max(1, round(test * tasks.count(last)))
    assert divide(encoded, division).held_out.tolist() == found.held_out.tolist()
    # Of what is evaluated there are at least so many, if there are.
    if len(drawn) >= least:
        more = divide(encoded, replace(division, min_rows=least)).held_out
        assert len(more) == min(tasks.count(last), max(least, round(test * tasks.count(last))))
        assert set(found.held_out) <= set(more)


def test_rows_are_drawn_evenly() -> None:
    """Each of 40 rows comes in a quarter of 600 draws: within five standard deviations."""
    encoded = labelled([""] * 50, ["a"] * 40 + ["b"] * 10)
    counts = np.zeros(50)
    for seed in range(600):
        division = wanted(held_out="b", train_share=0.25, test_share=0.5, seed=seed, peers=1)
        found = divide(encoded, division)
        counts[np.concatenate([found.held_out, *found.shards])] += 1
    assert np.abs(counts[:40] - 150).max() < 5 * (600 * 0.25 * 0.75) ** 0.5
    assert np.abs(counts[40:] - 300).max() < 5 * (600 * 0.5 * 0.5) ** 0.5


def test_golden_division() -> None:
    """A change here changes which rows the papers' settings train and evaluate on."""
    division = wanted(
        held_out="test",
        partition=BY_TASK,
        peers=3,
        train_share=0.2,
        test_share=0.1,
        min_rows=2,
        seed=42,
    )
    found = divide(MIXED, division)
    assert [shard.tolist() for shard in found.shards] == [
        [31, 33, 49, 50, 52],
        [73, 76],
        [1, 9, 14, 15],
    ]
    assert found.held_out.tolist() == [22, 25, 60, 62]


# Each task a peer


@settings(deadline=None)
@given(tasks_lists, st.integers(1, 12), shares, seeds)
def test_by_task_each_large_task_is_one_peer(
    tasks: list[str], least: int, share: float, seed: int
) -> None:
    encoded = labelled([""] * len(tasks), tasks)
    division = wanted(
        partition=BY_TASK, held_out="rows", min_rows=least, train_share=share, seed=seed
    )
    large = {task for task in set(tasks) if tasks.count(task) >= least}
    if len(large) < 2:
        with pytest.raises(UserError):
            count_training_tasks(encoded, division)
        return
    assert count_training_tasks(encoded, division) == len(large)
    shards = divide(encoded, replace(division, peers=len(large))).shards
    of = [set(np.take(tasks, shard).tolist()) for shard in shards]
    assert all(len(own) == 1 for own in of)
    assert set().union(*of) == large
    for shard, (task,) in zip(shards, of, strict=True):
        # The number of rows that a task needs counts before a share of them is drawn.
        assert len(shard) == max(1, round(share * tasks.count(task)))


def test_by_task_places_follow_neither_names_nor_sizes() -> None:
    tasks = [f"t{i}" for i in range(30) for _ in range(i + 1)]
    encoded = labelled([""] * len(tasks), tasks)
    orders = []
    for seed in (1, 2):
        found = divide(encoded, wanted(partition=BY_TASK, peers=30, seed=seed))
        orders.append([len(shard) for shard in found.shards])
        assert sorted(orders[-1]) == list(range(1, 31))
    assert sorted(orders[0]) not in orders
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"partition": BY_TASK, "peers": 8},
            "8 peers for 5 training tasks; allowed with partition = by-task: as many peers as"
            " tasks",
        ),
        (
            {"partition": BY_TASK, "min_rows": 26},
            "min_rows = 26 is not allowed: the largest training task has 25 rows",
        ),
        (
            {"partition": "by-category", "min_rows": 41},
            "min_rows = 41 is not allowed: the largest training category has 40 rows",
        ),
        (
            {"partition": "by-category", "min_rows": 11, "peers": 6},
            "min_rows = 11 is not allowed: by category one of 6 peers would have 10 rows",
        ),
        (
            {"partition": "dirichlet", "min_rows": 21, "peers": 4},
            "80 rows for 4 peers; allowed: at least min_rows = 21 rows for each peer",
        ),
        (
            {"train_share": 0.01, "peers": 6},
            "5 rows for 6 peers; allowed: at least one row for each peer",
        ),
    ],
)
def test_what_leaves_too_few_rows_is_told(options: dict[str, Any], line: str) -> None:
    assert refused(MIXED, wanted(**options)) == line


def test_one_training_task_is_no_run() -> None:
    encoded = labelled([""] * 6, ["a"] * 3 + ["b"] * 3)
    with pytest.raises(UserError) as caught:
        count_training_tasks(encoded, wanted(partition=BY_TASK, held_out="last"))
    assert str(caught.value) == (
        "partition = 'by-task' is not allowed: there is one training task, and a run has at least"
        " 2 peers"
    )


def test_categories_with_too_few_rows_are_left_out() -> None:
    found = divide(MIXED, wanted(partition="by-category", min_rows=20))
    dealt = np.concatenate(found.shards)
    assert {MIXED.category_names[i] for i in MIXED.categories[dealt]} == {"Sums", "Talk"}


# Real data


@needs(DOLLY)
@pytest.mark.parametrize("kind", KINDS)
def test_dolly_over_200_peers(kind: str) -> None:
    rows = load_rows(str(DOLLY)).rows
    found = split([row.category for row in rows], kind, 200, 0.5, 1000, 7)
    everything = np.concatenate([found.held_out, *found.shards])
    assert np.array_equal(np.sort(everything), np.arange(15_011))
    lines = DOLLY.read_text(encoding="utf-8").split("\n")
    categories = [{json.loads(lines[i])["category"] for i in shard} for shard in found.shards]
    if kind == "by-category":
        assert all(len(own) == 1 for own in categories)
    else:
        assert np.mean([len(own) for own in categories]) > 4


@needs(DOLLY)
@pytest.mark.parametrize("alpha", [0.5, 5.0])
def test_dolly_as_in_the_paper(alpha: float) -> None:
    encoded = labelled([row.category for row in load_rows(str(DOLLY)).rows])
    division = wanted(
        held_out="last", partition="dirichlet", peers=200, alpha=alpha, min_rows=10, seed=1
    )
    found = divide(encoded, division)
    assert len(found.held_out) == 1188
    held_out = {encoded.category_names[i] for i in encoded.categories[found.held_out]}
    assert held_out == {"summarization"}
    sizes = [len(shard) for shard in found.shards]
    assert (len(sizes), sum(sizes)) == (200, 15_011 - 1188)
    assert min(sizes) >= 10
    trained = {encoded.category_names[i] for i in encoded.categories[np.concatenate(found.shards)]}
    assert trained == set(encoded.category_names) - {"summarization"}
    assert len(trained) == 7
    # The smaller alpha, the more unlike the peers are.
    assert max(sizes) > 200 if alpha == 0.5 else max(sizes) < 200


@needs(TASKS)
def test_natural_instructions_as_in_the_paper() -> None:
    loaded = load_rows(str(TASKS))
    rows = loaded.rows
    encoded = labelled(
        [row.category for row in rows], [row.task for row in rows], loaded.test_tasks
    )
    division = wanted(
        held_out="test",
        partition=BY_TASK,
        train_share=0.2,
        test_share=0.02,
        min_rows=20,
        seed=1,
    )
    assert count_training_tasks(encoded, division) == 70
    found = divide(encoded, replace(division, peers=70))
    lists = {
        name: set((TASKS / "splits" / "default" / name).read_text().split())
        for name in ("train_tasks.txt", "test_tasks.txt")
    }
    tested = [encoded.task_names[i] for i in encoded.tasks[found.held_out]]
    assert set(tested) == lists["test_tasks.txt"]
    # 2% would be 4 of a task's 200 rows; there are at least 20 of each.
    assert {tested.count(task) for task in set(tested)} == {20}
    of = [{encoded.task_names[i] for i in encoded.tasks[own]} for own in found.shards]
    assert set().union(*of) == lists["train_tasks.txt"]
    every = [row.task for row in rows]
    for shard, (task,) in zip(found.shards, of, strict=True):
        assert len(shard) == round(0.2 * every.count(task))
    # 20% of most tasks' 200 rows.
    assert sorted(map(len, found.shards))[::69] == [19, 40]
