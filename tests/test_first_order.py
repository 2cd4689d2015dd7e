"""Steps by backpropagation are those of a plain loop over parameters, and leave nothing behind."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from peer import first_order
from peer.data.encode import Encoded, batch
from peer.errors import UserError
from peer.evaluation import mean_loss
from peer.first_order import FirstOrder
from peer.local_data import Rows
from peer.model import FlatModel, load_model
from peer.weights_digest import weights_digest

CPU = torch.device("cpu")


def loaded(folder: Path | str, dtype: str = "float32") -> FlatModel:
    return load_model(str(folder), dtype, CPU)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of a few thousand weights: biases, transposed products, tied ends, dropout."""
    folder = tmp_path_factory.mktemp("gpt2") / "model"
    config = GPT2Config(
        vocab_size=80,
        n_positions=128,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=1,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def some_batches(encoded: Encoded, count: int, size: int = 3) -> list[Rows]:
    places = np.random.default_rng(5).integers(0, len(encoded), (count, size))
    return [batch(encoded, each, 0) for each in places]


def plain_loss(module: Any, rows: Rows) -> torch.Tensor:
    """The mean loss of a batch over its labels, as anybody would write it."""
    input_ids, mask, labels = rows
    logits = module(input_ids=input_ids, attention_mask=mask).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100
    )


def plainly(
    folder: Path, kind: Any, learning_rate: float, batches: list[Rows], accumulate: int
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Parameters and losses after a loop with an optimiser over the module's own parameters."""
    module: Any = AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    optimizer = kind(module.parameters(), lr=learning_rate)
    losses = []
    for start in range(0, len(batches), accumulate):
        some = batches[start : start + accumulate]
        loss = torch.stack([plain_loss(module, rows) for rows in some]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return dict(module.named_parameters(remove_duplicate=False)), losses


@pytest.mark.parametrize(
    ("name", "kind", "learning_rate", "accumulate"),
    [
        ("sgd", torch.optim.SGD, 0.1, 3),
        ("adam", torch.optim.Adam, 1e-3, 1),
        ("adafactor", torch.optim.Adafactor, 1e-2, 3),
    ],
)
@pytest.mark.parametrize("folder", ["tiny_model", "tied_model", "gpt2"])
def test_steps_are_those_of_a_plain_loop(
    name: str,
    kind: Any,
    learning_rate: float,
    accumulate: int,
    folder: str,
    encoded: Encoded,
    request: pytest.FixtureRequest,
) -> None:
    path = request.getfixturevalue(folder)
    batches = some_batches(encoded, 7)
    model = loaded(path)
    start = model.weights.clone()
    update = FirstOrder(name, learning_rate, accumulate).run(model, iter(batches))
    parameters, losses = plainly(path, kind, learning_rate, batches, accumulate)
    assert update.losses.tolist() == pytest.approx(losses, rel=1e-5)
    assert update.skipped == 0
    assert update.loss == pytest.approx(np.mean(losses), rel=1e-5)
    for slot in model.layout.slots:
        part = model.weights[slot.offset : slot.offset + slot.size].view(slot.shape)
        torch.testing.assert_close(part, parameters[slot.name], rtol=1e-4, atol=2e-5)
    assert float((model.weights - start).abs().max()) > learning_rate / 20


def test_a_tied_parameter_gets_the_gradients_of_both_its_uses(
    tied_model: Path, encoded: Encoded
) -> None:
    (rows,) = some_batches(encoded, 1)
    model = loaded(tied_model)
    apart: Any = AutoModelForCausalLM.from_pretrained(str(tied_model)).eval()
    apart.lm_head.weight = torch.nn.Parameter(apart.lm_head.weight.detach().clone())
    plain_loss(apart, rows).backward()  # type: ignore[no-untyped-call]
    both = apart.lm_head.weight.grad + apart.model.embed_tokens.weight.grad
    with model.gradient() as gradient:
        losses, tokens = model.traced_losses(*rows)
        (losses.sum() / int(tokens.sum())).backward()
        (slot,) = (slot for slot in model.layout.slots if slot.name == "lm_head.weight")
        found = gradient[slot.offset : slot.offset + slot.size].view(slot.shape).clone()
    torch.testing.assert_close(found, both, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, apart.lm_head.weight.grad, rtol=1e-2)


def test_gradients_are_only_there_while_they_are_wanted(tiny_model: Path, encoded: Encoded) -> None:
    model = loaded(tiny_model)
    (rows,) = some_batches(encoded, 1)
    before = model.losses(*rows)[0]
    with model.gradient():
        assert torch.equal(model.losses(*rows)[0], before)
        assert model.traced_losses(*rows)[0].requires_grad
    assert not any(p.requires_grad or p.grad is not None for p in model.module.parameters())
    assert not model.traced_losses(*rows)[0].requires_grad
    assert torch.equal(model.losses(*rows)[0], before)
    FirstOrder("sgd", 0.0).run(model, [rows])
    assert not any(p.requires_grad or p.grad is not None for p in model.module.parameters())
    assert torch.equal(model.losses(*rows)[0], before)


def test_each_round_begins_with_a_new_optimiser(tiny_model: Path, encoded: Encoded) -> None:
    steps = FirstOrder("adam", 1e-3)
    batches = some_batches(encoded, 4)
    digests = set()
    for _ in range(2):
        model = loaded(tiny_model)
        steps.run(model, batches)
        digests.add(weights_digest(model.weights))
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["sgd", "adadelta"])
def test_weights_of_every_type_are_moved(
    name: str, dtype: str, tiny_model: Path, encoded: Encoded
) -> None:
    model = loaded(tiny_model, dtype)
    rows = some_batches(encoded, 1, size=8) * 6
    update = FirstOrder(name, 1.0, dtype=model.weights.dtype).run(model, rows)
    assert update.skipped == 0
    assert model.weights.dtype == getattr(torch, dtype)
    assert mean_loss(model, rows[0]) < update.losses[0] - 0.1


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_skipped(
    where: str,
    bad: float,
    tiny_model: Path,
    encoded: Encoded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, third = some_batches(encoded, 3)
    wanted = loaded(tiny_model)
    losses = FirstOrder("adam", 1e-3).run(wanted, [first, third]).losses
    genuine, model = FlatModel.traced_losses, loaded(tiny_model)

    def spoilt(model_: FlatModel, *rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        each, tokens = genuine(model_, *rows)
        if rows[0] is not second[0]:
            return each, tokens
        if where == "loss":
            return each * bad, tokens
        model_.parameters()[3].grad.view(-1)[1] = bad  # type: ignore[union-attr]
        return each, tokens

    monkeypatch.setattr(FlatModel, "traced_losses", spoilt)
    update = FirstOrder("adam", 1e-3).run(model, [first, second, third])
    assert update.skipped == 1
    assert update.losses[[0, 2]].tolist() == losses.tolist()
    assert math.isnan(update.losses[1])
    assert torch.equal(model.weights, wanted.weights)


def test_weights_that_left_the_numbers_skip_all(tiny_model: Path, encoded: Encoded) -> None:
    model = loaded(tiny_model)
    model.weights.fill_(math.nan)
    update = FirstOrder("sgd", 0.1).run(model, some_batches(encoded, 3))
    assert update.skipped == 3
    assert math.isnan(update.loss)


def test_no_batches_are_no_steps(tiny_model: Path) -> None:
    update = FirstOrder("sgd", 0.1).run(loaded(tiny_model), [])
    assert (len(update.losses), update.skipped) == (0, 0)
    assert math.isnan(update.loss)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("adm", r"none of this name; did you mean adam"),
        ("SGD", r"none of this name; did you mean .*sgd"),
        ("", r"none of this name; allowed are .*adamw.*sgd"),
        ("optimizer", "none of this name"),
        ("lbfgs", "it cannot move a vector by its gradient alone: .*closure"),
        ("sparseadam", "it cannot move a vector by its gradient alone: .*dense gradients"),
    ],
)
def test_what_is_no_optimiser_for_this_is_told_in_one_line(name: str, told: str) -> None:
    with pytest.raises(UserError, match=rf"^optimizer = '{name}' is not allowed: .*{told}") as line:
        FirstOrder(name, 1e-3)
    assert len(str(line.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "radam", "adagrad"])
def test_an_optimiser_that_would_divide_by_0_in_float16_is_refused(name: str) -> None:
    FirstOrder(name, 1e-3, dtype=torch.bfloat16)
    with pytest.raises(UserError, match=f"^optimizer = '{name}' is not allowed with float16"):
        FirstOrder(name, 1e-3, dtype=torch.float16)


def test_batches_go_into_groups_in_order() -> None:
    numbers: Any = range(7)
    assert [list(some) for some in first_order._groups(numbers, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(("name", "learning_rate"), [("sgd", 0.3), ("adamw", 3e-3)])
def test_the_builtin_model_learns(name: str, learning_rate: float) -> None:
    from peer.data.encode import encode
    from peer.data.rows import load_rows
    from peer.model import load_tokenizer

    model = loaded("builtin")
    rows = load_rows("builtin").rows[:8]
    encoded = encode(rows, load_tokenizer("builtin"), 256)
    batches = [batch(encoded, np.arange(8), 0)] * 8
    update = FirstOrder(name, learning_rate).run(model, batches)
    assert mean_loss(model, batches[0]) < update.losses[0] - 0.3
