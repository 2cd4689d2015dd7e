"""Sizes of models and of adapters: the arithmetic equals what the libraries build."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer import builtin
from peer.adapter_size import lora, prompt_encoder, soft_prompt
from peer.errors import UserError
from peer.model_size import ALIASES, SHAPES, Shape, model_size


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("tinyllama-1.1b", 1_100_048_384),
        ("datajuicer-1.3b", 1_345_423_360),
        ("llama-3b", 3_426_473_600),
        ("llama-7b", 6_738_415_616),
        ("llama-8b", 8_030_261_248),
        ("llama-13b", 13_015_864_320),
        ("llama-33b", 32_528_943_616),
        ("llama-65b", 65_285_660_672),
        ("llama-70b", 68_976_648_192),
    ],
)
def test_published_shapes_have_their_published_numbers_of_parameters(name, parameters):
    assert model_size(name).parameters == parameters


def test_every_shape_is_checked_and_every_alias_leads_to_one():
    assert len(SHAPES) == 9
    for alias, name in ALIASES.items():
        assert model_size(alias.upper()) == model_size(name)


def built(shape, **more):
    """Count what transformers makes of a shape, with the weights left out."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    head = 64 if shape.queries % 64 == 0 and shape.keys % 64 == 0 else 8
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocabulary,
        num_attention_heads=shape.queries // head,
        num_key_value_heads=shape.keys // head,
        head_dim=head,
        tie_word_embeddings=shape.tied,
        attention_bias=shape.attention_bias,
        mlp_bias=shape.mlp_bias,
        **more,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


@pytest.mark.parametrize("name", ["datajuicer-1.3b", "llama-3b", "llama-8b"])
def test_transformers_builds_as_many_parameters(name):
    module = built(SHAPES[name])
    assert sum(each.numel() for each in module.parameters()) == SHAPES[name].parameters


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_ties_biases_and_grouped_heads_are_counted(tied, bias):
    shape = Shape(
        hidden=48,
        layers=3,
        intermediate=80,
        vocabulary=101,
        queries=64,
        keys=16,
        tied=tied,
        attention_bias=bias,
        mlp_bias=bias,
    )
    module = built(shape)
    assert sum(each.numel() for each in module.parameters()) == shape.parameters


def test_the_folders_of_models_are_counted_as_their_files_hold_them():
    from safetensors import safe_open

    with safe_open(builtin.MODEL / "model.safetensors", "pt") as weights:
        stored = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    held = sum(_product(shape) for name, shape in stored.items() if name != "lm_head.weight")
    for text in ("builtin", str(builtin.MODEL)):
        size = model_size(text)
        assert size.parameters == held == 201_920
        assert size.name == text


def _product(numbers):
    product = 1
    for number in numbers:
        product *= number
    return product


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("2.7B", 2_700_000_000),
        ("350M", 350_000_000),
        ("350m", 350_000_000),
        ("1500000", 1_500_000),
        ("0.5k", 500),
        ("1T", 10**12),
    ],
)
def test_a_count_stands_for_itself_and_has_no_shape(text, parameters):
    size = model_size(text)
    assert (size.parameters, size.shape) == (parameters, None)


@given(st.integers(1, 10**15))
def test_any_whole_number_is_a_count(number):
    assert model_size(str(number)).parameters == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "0B", "1.5", "-3B", "1e9", "1_000", "٣B", "nan", "B", "10000T", "7Q", "a/b", "/none"],
)
def test_what_is_no_size_is_told_in_one_line(text):
    with pytest.raises(UserError) as caught:
        model_size(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_misspelt_name_is_put_right():
    with pytest.raises(UserError, match=r"did you mean llama-3b\?"):
        model_size("lama-3b")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "opt"}, "the shape of a 'opt' is not known here"),
        ({}, "the shape of a None"),
        ([], "no table"),
        ({"model_type": "llama"}, "hidden_size = None"),
        ({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 0}, "heads = 0"),
        ({"model_type": "llama", "hidden_size": "8"}, "hidden_size = '8'"),
    ],
)
def test_a_folder_of_another_kind_is_the_users_mistake(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        model_size(str(tmp_path))


def test_a_folder_without_json_is_the_users_mistake(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        model_size(str(tmp_path))


def test_adapters_of_the_papers_models():
    small, large = SHAPES["datajuicer-1.3b"], SHAPES["llama-3b"]
    assert (lora(small), lora(large)) == (1_572_864, 2_662_400)
    assert (prompt_encoder(small), prompt_encoder(large)) == (12_630_016, 30_793_600)
    assert (soft_prompt(small), soft_prompt(large)) == (40_960, 64_000)


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_lora_counts_the_factors_of_queries_and_values_as_they_are_built(rank):
    shape = Shape(hidden=48, layers=3, intermediate=80, vocabulary=101, queries=64, keys=16)
    linear = {name: module for name, module in built(shape).named_modules() if "_proj" in name}
    adapted = [module for name, module in linear.items() if name.endswith(("q_proj", "v_proj"))]
    assert len(adapted) == 2 * 3
    built_factors = sum(rank * (each.in_features + each.out_features) for each in adapted)
    assert lora(shape, rank) == built_factors
