"""The flat model: its layout, its buffer, its losses, and what cannot be loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig

import peer.model
from peer.errors import UserError
from peer.model import (
    FlatModel,
    Layout,
    Slot,
    load_model,
    load_tokenizer,
    positions,
    resolve_device,
)
from peer.weights_digest import weights_digest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> FlatModel:
    return load_model(str(tiny_model), "float32", CPU)


def reference(model: FlatModel, ids: list[int], labels: list[int]) -> tuple[float, int]:
    """Summed loss and label tokens of one row, in float64 from the logits of the row alone."""
    with torch.no_grad():
        logits = model.module(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    total, count = 0.0, 0
    for t, label in enumerate(labels[1:]):
        if label != -100:
            scores = logits[t]
            total += float(np.log(np.exp(scores - scores.max()).sum()) + scores.max())
            total -= float(scores[label])
            count += 1
    return total, count


def padded(rows: list[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, ...]:
    """Rows of ids and labels as (input_ids, attention_mask, labels), filled up on the right."""
    longest = max(len(ids) for ids, _ in rows)
    gaps = [longest - len(ids) for ids, _ in rows]
    return (
        torch.tensor([ids + [pad] * gap for (ids, _), gap in zip(rows, gaps, strict=True)]),
        torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
        torch.tensor([labels + [-100] * gap for (_, labels), gap in zip(rows, gaps, strict=True)]),
    )


def test_parameters_are_numbered_by_sorted_name(model: FlatModel) -> None:
    slots = model.layout.slots
    names = [slot.name for slot in slots]
    assert names == sorted(dict(model.module.named_parameters()))
    assert len(set(names)) == len(names)
    ends = [0]
    for slot in slots:
        assert slot.offset == ends[-1]
        assert slot.size == int(np.prod(slot.shape))
        ends.append(slot.offset + slot.size)
    assert model.layout.parameters == ends[-1] == len(model.weights)
    assert ends[-1] == sum(p.numel() for p in model.module.parameters())


def test_tied_parameters_are_counted_once_under_their_smallest_name(tied_model: Path) -> None:
    tied = load_model(str(tied_model), "float32", CPU)
    names = [slot.name for slot in tied.layout.slots]
    assert "lm_head.weight" in names
    assert "model.embed_tokens.weight" not in names
    embedding = tied.module.get_input_embeddings().weight
    assert embedding is tied.module.get_output_embeddings().weight
    assert len(tied.weights) == sum(p.numel() for p in tied.module.parameters())
    before = embedding.clone()
    tied.weights.mul_(2.0)
    assert torch.equal(embedding, 2 * before)


def test_a_tied_model_is_smaller_by_its_embedding(model: FlatModel, tied_model: Path) -> None:
    tied = load_model(str(tied_model), "float32", CPU)
    rows, columns = model.module.get_input_embeddings().weight.shape
    assert model.layout.parameters - tied.layout.parameters == rows * columns
    assert model.layout.digest() != tied.layout.digest()


def test_weights_are_those_of_the_file(model: FlatModel, tiny_model: Path) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(str(tiny_model))
    parameters = dict(plain.named_parameters())
    for slot in model.layout.slots:
        part = model.weights[slot.offset : slot.offset + slot.size]
        assert torch.equal(part.view(slot.shape), parameters[slot.name])


def test_every_parameter_is_a_view_into_the_buffer(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), "float32", CPU)
    storage = model.weights.untyped_storage().data_ptr()
    parameters = dict(model.module.named_parameters())
    for slot in model.layout.slots:
        parameter = parameters[slot.name]
        assert parameter.untyped_storage().data_ptr() == storage
        assert parameter.storage_offset() == slot.offset
        model.weights[slot.offset] = 7.25
        assert parameter.flatten()[0] == 7.25


def test_changing_the_buffer_changes_the_logits_as_changing_the_module_does(
    tiny_model: Path,
) -> None:
    flat = load_model(str(tiny_model), "float32", CPU)
    plain: Any = AutoModelForCausalLM.from_pretrained(str(tiny_model)).eval()
    ids = torch.tensor([[3, 9, 4, 20]])
    shift = torch.randn(len(flat.weights), generator=torch.Generator().manual_seed(1))
    before = flat.module(input_ids=ids).logits
    flat.weights.add_(shift)
    with torch.no_grad():
        for slot in flat.layout.slots:
            part = shift[slot.offset : slot.offset + slot.size].view(slot.shape)
            dict(plain.named_parameters())[slot.name].add_(part)
        after = plain(input_ids=ids).logits
    assert torch.equal(flat.module(input_ids=ids).logits, after)
    assert not torch.equal(before, after)


def test_no_graph_and_no_gradients_are_kept(model: FlatModel) -> None:
    assert not model.weights.requires_grad
    assert not any(p.requires_grad for p in model.module.parameters())
    assert not model.module.training
    ids = torch.tensor([[3, 9, 4]])
    losses, _ = model.losses(ids, torch.ones_like(ids), ids)
    assert not losses.requires_grad
    assert losses.grad_fn is None
    assert model.module(input_ids=ids).logits.grad_fn is None
    assert all(p.grad is None for p in model.module.parameters())


tokens = st.integers(0, 40)


@st.composite
def labelled_rows(draw: st.DrawFn) -> list[tuple[list[int], list[int]]]:
    """Rows whose labels are ignored up to some place, as a prompt's are, or anywhere."""
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        ids = draw(st.lists(tokens, min_size=2, max_size=12))
        kept = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
        rows.append((ids, [i if keep else -100 for i, keep in zip(ids, kept, strict=True)]))
    return rows


@given(rows=labelled_rows(), pad=tokens)
@settings(deadline=None, max_examples=60)
def test_losses_are_those_of_each_row_alone(
    model: FlatModel, rows: list[tuple[list[int], list[int]]], pad: int
) -> None:
    losses, counts = model.losses(*padded(rows, pad))
    assert losses.dtype == torch.float64
    assert losses.shape == counts.shape == (len(rows),)
    for row, loss, count in zip(rows, losses.tolist(), counts.tolist(), strict=True):
        expected, labels = reference(model, *row)
        assert count == labels
        assert loss == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_how_many_logits_are_taken_at_once_changes_no_bit(
    model: FlatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [([5, 6, 7, 8, 9, 10, 3], [-100, -100, 7, 8, 9, 10, 3]), ([11, 12], [-100, 12])]
    found = []
    vocabulary = model.module.config.vocab_size
    assert len(model.weights) // 100 < 2 * vocabulary
    for most in (2**30, 1, 4 * vocabulary):
        monkeypatch.setattr(peer.model, "LOGITS", most)
        found.append(model.losses(*padded(rows, 0))[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_fills_up_short_rows_changes_nothing(model: FlatModel) -> None:
    rows = [([5, 6, 7, 8, 9, 10], [-100, -100, 7, 8, 9, 10]), ([11, 12], [-100, 12])]
    some, _ = model.losses(*padded(rows, pad=0))
    others, _ = model.losses(*padded(rows, pad=33))
    assert torch.equal(some, others)


def test_the_first_label_is_never_predicted(model: FlatModel) -> None:
    ids, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.int64)
    with_first, counted = model.losses(ids, mask, torch.tensor([[5, 6, 7]]))
    without, same = model.losses(ids, mask, torch.tensor([[-100, 6, 7]]))
    assert torch.equal(with_first, without)
    assert counted.tolist() == same.tolist() == [2]


def test_a_row_without_labels_has_no_loss(model: FlatModel) -> None:
    rows = [([5, 6, 7], [-100, -100, -100]), ([5, 6, 7], [-100, 6, 7])]
    losses, counts = model.losses(*padded(rows, 0))
    assert losses[0] == 0.0
    assert counts.tolist() == [0, 2]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_loaded_in_the_type_that_is_asked_for(dtype: str, tiny_model: Path) -> None:
    model = load_model(str(tiny_model), dtype, CPU)
    wanted = getattr(torch, dtype)
    assert model.weights.dtype == wanted
    assert {p.dtype for p in model.module.parameters()} == {wanted}
    stored = load_model(str(tiny_model), "float32", CPU)
    assert torch.equal(model.weights, stored.weights.to(wanted))
    assert model.layout == stored.layout
    rows = [([5, 6, 7, 8], [-100, -100, 7, 8]), ([11, 12], [-100, 12])]
    losses, counts = model.losses(*padded(rows, 0))
    exact, _ = stored.losses(*padded(rows, 0))
    assert losses.dtype == torch.float64
    assert counts.tolist() == [2, 1]
    assert losses.tolist() == pytest.approx(exact.tolist(), rel=0.05)


def test_a_layout_digest_covers_names_shapes_and_offsets() -> None:
    slots = (Slot("a", (2, 3), 0, 6), Slot("b", (4,), 6, 4))
    others = [
        (slots[0],),
        (Slot("c", (2, 3), 0, 6), slots[1]),
        (Slot("a", (3, 2), 0, 6), slots[1]),
        (slots[0], Slot("b", (4,), 7, 4)),
        (Slot("b", (4,), 0, 4), Slot("a", (2, 3), 4, 6)),
    ]
    digests = {Layout(each).digest() for each in (slots, *others)}
    assert len(digests) == 1 + len(others)
    assert all(len(digest) == 32 for digest in digests)
    assert Layout(slots).digest() == "a95ce21294601e530cd5b875cff71da6"
    assert Layout(slots).parameters == 10


def refused(source: str, **options: Any) -> str:
    with pytest.raises(UserError) as refusal:
        load_model(source, options.get("dtype", "float32"), CPU)
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    assert line.startswith(f"model = {source!r}")
    assert "allowed are a folder with a Hugging Face causal LM, a hub id, and builtin" in line
    return line


@pytest.mark.parametrize(
    "source",
    [
        "no-such-folder",
        "./no-such-folder",
        "../a/b",
        "/no/such/folder",
        "/no-such",
        "~/no-such-folder-here",
        "~nobody-of-this-name/model",
        "a/b/c",
        ".",
        "",
        " ",
        "two\nlines",
    ],
)
def test_what_is_neither_folder_nor_hub_id_is_refused_without_asking_the_hub(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        pytest.fail("went to the network")

    monkeypatch.setattr("socket.socket.connect", offline)
    monkeypatch.chdir(tmp_path)
    refused(source)
    for load in (load_tokenizer, positions):
        with pytest.raises(UserError, match=r"^model = "):
            load(source)


@pytest.mark.parametrize(
    "source", ["no-such-folder", "./folder", "../folder", "/folder", "~/no-such-folder", "a/b/c"]
)
def test_paths_are_never_taken_for_hub_ids(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        pytest.fail("taken for a hub id")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loaded)
    assert "there is no such folder" in refused(source)


def test_a_hub_id_is_asked_for_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(source: str, **_: Any) -> None:
        asked.append(source)
        raise OSError("the hub cannot be reached\nand more that nobody wants to read")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", answer)
    line = refused("owner/name")
    assert asked == ["owner/name"]
    assert "cannot be loaded: the hub cannot be reached; allowed" in line


def test_a_file_is_no_model(tiny_data: Path) -> None:
    assert "there is no such folder" in refused(str(tiny_data))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    refused(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    refused(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    refused(str(tmp_path))


def test_a_truncated_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_model, tmp_path / "model")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(str(broken))


def test_a_model_with_other_shapes_than_it_says_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    refused(str(other))


def test_a_model_with_parameters_left_out_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    # What a checkpoint leaves out is drawn at random: two peers would start from two models.
    from safetensors.torch import load_file, save_file

    partial = shutil.copytree(tiny_model, tmp_path / "model")
    tensors = load_file(partial / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    assert "1 of its parameters are not stored, such as lm_head.weight" in refused(str(partial))


def test_a_model_with_its_own_code_is_refused_without_a_question(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    coded = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((coded / "config.json").read_text())
    config |= {
        "model_type": "their-own",
        "auto_map": {
            "AutoConfig": "code.TheirConfig",
            "AutoModelForCausalLM": "code.TheirModel",
        },
    }
    (coded / "config.json").write_text(json.dumps(config))
    (coded / "code.py").write_text("raise SystemExit('this must not run')\n")
    refused(str(coded))
    assert capfd.readouterr().out == ""


def test_parameters_of_several_types_are_refused() -> None:
    from transformers import LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    module = LlamaForCausalLM(config)
    module.lm_head.to(torch.bfloat16)
    with pytest.raises(UserError, match=r"several types: \['torch.bfloat16', 'torch.float32'\]"):
        FlatModel(module, CPU)


def test_two_loads_give_the_same_weights(tiny_model: Path, tied_model: Path) -> None:
    for folder in (tiny_model, tied_model):
        once, twice = (load_model(str(folder), "float32", CPU) for _ in range(2))
        assert weights_digest(once.weights) == weights_digest(twice.weights)


def test_the_number_of_positions_is_read_without_the_weights(
    tiny_model: Path, tmp_path: Path
) -> None:
    assert positions(str(tiny_model)) == 128
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 77}))
    assert positions(str(tmp_path)) == 77
    (tmp_path / "config.json").write_text('{"model_type": "bloom"}')
    assert positions(str(tmp_path)) == 2**20


def test_devices_go_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    with pytest.raises(UserError, match=r"^device = 'cuda': this machine has no GPU"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cpu") == CPU


def test_the_tokenizer_is_the_folders(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    assert tokenizer.eos_token_id == 1
    assert tokenizer.decode(tokenizer("The red cat")["input_ids"]) == "The red cat"
