"""w0 in the files that the model was loaded from: all of it, to the bit, and no copy."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from training import whole
from transformers import AutoModelForCausalLM

from peer import pretrained, rebuild
from peer.errors import UserError
from peer.model import FlatModel, load_model
from peer.perturbation import DISTRIBUTIONS, perturbation
from peer.pretrained import Pretrained
from peer.weights_digest import weights_digest

CPU = torch.device("cpu")
SEEDS = np.arange(3, 11, dtype=np.uint64)
SUMS = np.array([5, -(2**20), 0, 7, 2**50, 1, -(2**33), 2])


def bits(weights: torch.Tensor) -> str:
    return weights_digest(weights)


def mappings(path: Path) -> list[range]:
    """The addresses at which this process has mapped a file."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    ends = [line.split()[0].split("-") for line in lines if line.endswith(f" {path.resolve()}")]
    return [range(int(start, 16), int(stop, 16)) for start, stop in ends]


def mapped(w0: Pretrained, *files: Path) -> int:
    """How many of the weights lie in mappings of files, and nowhere else."""
    places = [place for file in files for place in mappings(file)]
    return sum(
        len(weights)
        for _, weights in w0.segments
        if any(weights.data_ptr() in place for place in places)
    )


def private(path: Path) -> int:
    """How many kB of the mappings of a file are no longer the file's but this process's own."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(f" {path.resolve()}")
        elif inside and line.startswith("Anonymous:"):
            found += int(line.split()[1])
    return found


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of its mappings")


@pytest.fixture(params=["tiny_model", "tied_model"])
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def loaded(folder: Path, dtype: str = "float32") -> tuple[FlatModel, Pretrained]:
    model = load_model(str(folder), dtype, CPU)
    return model, Pretrained(model)


def assert_whole(model: FlatModel, w0: Pretrained) -> None:
    """Every weight is there once, in order, in the bits of the model."""
    starts = [start for start, _ in w0.segments]
    stops = [start + len(weights) for start, weights in w0.segments]
    assert [*starts, len(model.weights)] == [0, *stops]
    assert len(w0) == len(model.weights) == model.layout.parameters
    assert w0.dtype == model.weights.dtype
    assert bits(whole(w0)) == bits(model.weights) == w0.digest


def stored_as(
    folder: Path, to: Path, change: Any, name: str = "model.safetensors", **metadata: str
) -> Path:
    """A copy of a model whose tensors `change` has turned into others."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, to / name, metadata={"format": "pt"} | metadata)
    return to


@linux
def test_a_model_in_one_file_is_one_segment_of_it(folder: Path, dtype: str) -> None:
    # Tied weights are stored under another name than they have in the model.
    model, w0 = loaded(folder, dtype)
    assert_whole(model, w0)
    assert len(w0.segments) == 1
    assert w0.segments[0].weights.dtype == torch.float32
    assert mapped(w0, folder / "model.safetensors") == len(w0)


@linux
def test_no_page_of_the_file_becomes_our_own(tiny_model: Path) -> None:
    model, w0 = loaded(tiny_model)
    kernel = perturbation("rademacher", "cpu", 1)
    rebuild.rebuild(kernel, w0, model.weights, SEEDS, SUMS, -40)
    assert private(tiny_model / "model.safetensors") == 0
    w0.segments[0].weights[0] = 1.0
    assert private(tiny_model / "model.safetensors") > 0


@linux
def test_weights_in_several_files(tiny_model: Path, tmp_path: Path, dtype: str) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(str(tiny_model))
    plain.save_pretrained(tmp_path, max_shard_size="12KB")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    model, w0 = loaded(tmp_path, dtype)
    assert model.files == tuple(files)
    assert_whole(model, w0)
    assert w0.digest == loaded(tiny_model, dtype)[1].digest
    assert len(w0.segments) < len(model.layout.slots)
    assert mapped(w0, *files) == len(w0)


@linux
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_weights_of_another_type_are_mapped_and_converted(
    stored: torch.dtype, tiny_model: Path, tmp_path: Path, dtype: str
) -> None:
    other = stored_as(
        tiny_model, tmp_path / "m", lambda found: {k: t.to(stored) for k, t in found.items()}
    )
    model, w0 = loaded(other, dtype)
    assert_whole(model, w0)
    assert [weights.dtype for _, weights in w0.segments] == [stored]
    assert mapped(w0, other / "model.safetensors") == len(w0)


def with_prefix_removed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


@linux
def test_parameters_are_found_under_other_names(tiny_model: Path, tmp_path: Path) -> None:
    other = stored_as(tiny_model, tmp_path / "m", with_prefix_removed)
    model, w0 = loaded(other)
    names = set(load_file(other / "model.safetensors"))
    assert any(slot.name not in names for slot in model.layout.slots)
    assert_whole(model, w0)
    assert mapped(w0, other / "model.safetensors") == len(w0)


@linux
def test_types_that_weights_cannot_have_are_copied(tiny_model: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tensors | {"model.norm.weight": tensors["model.norm.weight"].double()}

    other = stored_as(tiny_model, tmp_path / "m", change)
    model, w0 = loaded(other)
    assert_whole(model, w0)
    norm = model.layout.slots[-1]
    assert norm.name == "model.norm.weight"
    # Its values, all 1, are those of the other norms as well.
    assert mapped(w0, other / "model.safetensors") == len(w0)
    assert w0.segments[-1].start == norm.offset


@linux
def test_what_no_file_holds_is_copied_and_only_that(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), "float32", CPU)
    changed = model.layout.slots[3]
    model.weights[changed.offset + changed.size - 1] += 1.0
    w0 = Pretrained(model)
    assert_whole(model, w0)
    assert [start for start, _ in w0.segments] == [
        0,
        changed.offset,
        changed.offset + changed.size,
    ]
    assert mapped(w0, tiny_model / "model.safetensors") == len(w0) - changed.size


def test_the_sign_of_a_zero_counts(tiny_model: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["lm_head.weight"][0, 0] = 0.0
        return tensors

    model = load_model(str(stored_as(tiny_model, tmp_path / "m", change)), "float32", CPU)
    model.weights[0] = -0.0
    assert_whole(model, Pretrained(model))


def test_a_checkpoint_of_another_kind_is_copied(tiny_model: Path, tmp_path: Path) -> None:
    other = stored_as(tiny_model, tmp_path / "m", lambda tensors: tensors)
    torch.save(load_file(other / "model.safetensors"), other / "pytorch_model.bin")
    (other / "model.safetensors").unlink()
    model, w0 = loaded(other)
    assert model.files == ()
    assert_whole(model, w0)
    assert len(w0.segments) == 1
    model.weights.add_(1.0)
    assert bits(whole(w0)) == w0.digest


def test_a_model_without_a_folder_is_copied(tiny_model: Path) -> None:
    module: Any = AutoModelForCausalLM.from_pretrained(str(tiny_model))
    model = FlatModel(module, CPU)
    assert_whole(model, Pretrained(model))


@pytest.mark.parametrize("skew", [1, 2, 3])
def test_weights_at_odd_places_of_a_file(
    skew: int, tiny_model: Path, tmp_path: Path, dtype: str
) -> None:
    """Early versions of safetensors did not fill the header up."""
    other = stored_as(tiny_model, tmp_path / "m", lambda tensors: tensors)
    file = other / "model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = data[8 : 8 + length] + b" " * skew
    file.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])
    model, w0 = loaded(other, dtype)
    assert_whole(model, w0)
    assert all(weights.data_ptr() % weights.itemsize == 0 for _, weights in w0.segments)


def test_metadata_is_no_tensor(tiny_model: Path, tmp_path: Path) -> None:
    other = stored_as(tiny_model, tmp_path / "m", lambda tensors: tensors, dtype="F32")
    assert_whole(*loaded(other))


SLICES = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(
    sizes=SLICES,
    order=st.randoms(use_true_random=False),
    left_out=st.sets(st.integers(0, 11)),
    files=st.integers(1, 3),
    equal=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_w0_is_whole_wherever_its_parts_are(
    sizes: list[int],
    order: Any,
    left_out: set[int],
    files: int,
    equal: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    parameters = {
        f"p{i:02}": torch.ones(size) if equal else torch.randn(size) for i, size in enumerate(sizes)
    }
    names = [name for i, name in enumerate(parameters) if i not in left_out]
    order.shuffle(names)
    place = tmp_path_factory.mktemp("files")
    for number in range(files):
        # The names of a file tell the order of its tensors.
        tensors = {f"{j}": parameters[name] for j, name in enumerate(names[number::files])}
        save_file(tensors, place / f"{number}.safetensors")

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in parameters.items():
                setattr(self, name, torch.nn.Parameter(value.clone()))

    module: Any = Module()
    model = FlatModel(module, CPU, tuple(sorted(place.glob("*.safetensors"))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "_CHUNK", 7)
        assert_whole(model, Pretrained(model))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("shards", [1, 5])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_rebuild_from_segments_is_that_from_one_tensor(
    stored: torch.dtype,
    shards: int,
    distribution: str,
    dtype: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype=stored)
    size = sum(p.nbytes for p in plain.parameters())
    plain.save_pretrained(tmp_path, max_shard_size=size // shards + size // 20)
    model, w0 = loaded(tmp_path, dtype)
    assert (len(w0.segments) > 1) == (shards > 1)
    kernel = perturbation(distribution, "cpu", 2)
    one = whole(w0)
    expected = torch.empty_like(one)
    kernel.rebuild(expected, one, SEEDS, SUMS, -40)
    monkeypatch.setattr(rebuild, "_CHUNK", 1000)
    model.weights.fill_(math.nan)
    rebuild.rebuild(kernel, w0, model.weights, SEEDS, SUMS, -40)
    assert bits(model.weights) == bits(expected) != bits(one)
    assert bits(whole(w0)) == w0.digest


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"sums": np.where(SUMS == 0, 2**51, SUMS)}, "sum 2251799813685248 is past"),
    ({"sums": SUMS.astype(np.float64)}, "sums float64"),
    ({"seeds": SEEDS.astype(np.int64)}, "seeds are int64"),
    ({"seeds": SEEDS[1:]}, r"shape \(7,\)"),
    ({"exponent": -901}, "exponent -901"),
    ({"out": torch.zeros(17)}, r"shape \(17,\)"),
    ({"out": "halves"}, r"torch.float16 .* torch.float32"),
    ({"out": "square"}, r"shape \(1, "),
    ({"out": "strided"}, "must be alike, and out in one piece"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[m for _, m in REFUSED])
@pytest.mark.parametrize("stored", ["m", "half"])
def test_what_is_refused_changes_nothing(
    changes: dict[str, Any], message: str, stored: str, tiny_model: Path, tmp_path: Path
) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: t.half() if stored == "half" else t for k, t in tensors.items()}

    _, w0 = loaded(stored_as(tiny_model, tmp_path / stored, change))
    outs = {
        "halves": torch.zeros(len(w0), dtype=torch.float16),
        "square": torch.zeros(1, len(w0)),
        "strided": torch.zeros(2 * len(w0))[::2],
    }
    arguments = {"out": torch.zeros(len(w0)), "seeds": SEEDS, "sums": SUMS, "exponent": -40}
    arguments |= changes
    if isinstance(arguments["out"], str):
        arguments["out"] = outs[arguments["out"]]
    with pytest.raises(UserError, match=message):
        rebuild.rebuild(perturbation("gaussian", "cpu", 1), w0, **arguments)
    assert arguments["out"].count_nonzero() == 0
    assert bits(whole(w0)) == w0.digest


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "index", "place"),
    [
        ("lm_head.weight", (0, 0), "[0, 0]"),
        ("model.layers.1.mlp.up_proj.weight", (31, 15), "[31, 15]"),
        ("model.norm.weight", (15,), "[15]"),
    ],
)
def test_weights_that_are_not_finite_are_refused(
    value: float,
    name: str,
    index: tuple[int, ...],
    place: str,
    tiny_model: Path,
    tmp_path: Path,
    dtype: str,
) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors[name][index] = value
        return tensors

    model = load_model(str(stored_as(tiny_model, tmp_path / "m", change)), dtype, CPU)
    with pytest.raises(UserError) as refusal:
        Pretrained(model)
    assert str(refusal.value) == f"the model's weights are not finite: {name}{place} is {value}"


def test_a_weight_that_its_type_cannot_hold_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["model.norm.weight"][2] = 1e6
        return tensors

    other = stored_as(tiny_model, tmp_path / "m", change)
    loaded(other, "bfloat16")
    with pytest.raises(UserError, match=r"model\.norm\.weight\[2\] is inf"):
        loaded(other, "float16")


def test_a_file_that_is_replaced_or_removed_lives_on(tiny_model: Path, tmp_path: Path) -> None:
    other = stored_as(tiny_model, tmp_path / "m", lambda tensors: tensors)
    file = other / "model.safetensors"
    model, w0 = loaded(other)
    zeros = {name: torch.zeros_like(t) for name, t in load_file(file).items()}
    save_file(zeros, tmp_path / "new")
    os.replace(tmp_path / "new", file)
    for _ in range(2):
        kernel = perturbation("gaussian", "cpu", 1)
        rebuild.rebuild(kernel, w0, model.weights, SEEDS, np.zeros(8, np.int64), 0)
        assert bits(model.weights) == bits(whole(w0)) == w0.digest
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("change", ["written", "longer", "cut"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_file_that_is_changed_in_place_is_told(
    moved: bool, change: str, tiny_model: Path, tmp_path: Path
) -> None:
    other = stored_as(tiny_model, tmp_path / "m", lambda tensors: tensors)
    file = other / "model.safetensors"
    model, w0 = loaded(other)
    model.weights.fill_(2.0)
    at = other.rename(tmp_path / "elsewhere") / file.name if moved else file
    if moved:
        w0.check()
    with at.open("r+b") as opened:
        if change == "written":
            opened.seek(-4, os.SEEK_END)
            opened.write(b"\1\1\1\1")
        else:
            opened.truncate(at.stat().st_size + (8 if change == "longer" else -8))
    with pytest.raises(UserError) as refusal:
        rebuild.rebuild(perturbation("gaussian", "cpu", 1), w0, model.weights, SEEDS, SUMS, 0)
    assert str(refusal.value).startswith(f"{file} was changed while it was in use")
    assert bool((model.weights == 2.0).all())


def test_a_write_by_mistake_does_not_reach_the_file(tiny_model: Path, tmp_path: Path) -> None:
    other = stored_as(tiny_model, tmp_path / "m", lambda tensors: tensors)
    before = (other / "model.safetensors").read_bytes()
    _, w0 = loaded(other)
    w0.segments[0].weights.fill_(3.0)
    assert (other / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_model_of_the_hub_is_mapped_from_its_cache(tiny_model: Path, tmp_path: Path) -> None:
    place = tmp_path / "models--owner--name"
    shutil.copytree(tiny_model, place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    program = """
import json, torch
from peer.model import load_model
from peer.pretrained import Pretrained
model = load_model("owner/name", "float32", torch.device("cpu"))
print(json.dumps([[str(file) for file in model.files], len(Pretrained(model).segments)]))
"""
    env = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    files, segments = json.loads(told.stdout)
    assert files == [str(place / "snapshots" / "abc" / "model.safetensors")]
    assert segments == 1
