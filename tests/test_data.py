"""Instruction rows from every source, the prompt, token ids and batches."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from peer import builtin
from peer.data.encode import Encoded, batch, default_max_length, encode
from peer.data.fields import row_from_fields
from peer.data.hub import hub_records
from peer.data.rows import Row, load_rows
from peer.data.template import prompt
from peer.errors import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"
DOLLY = SHARED / "dolly15k" / "databricks-dolly-15k.jsonl"
TASKS = SHARED / "natural-instructions-mini" / "tasks"
STORIES = SHARED / "stories260K-hf"

BOS, EOS = 256, 257


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.exists(), reason=f"{path.name} is not on this machine")


def byte_tokenizer(
    eos: str | None = "</s>", normalizer: normalizers.Normalizer | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each byte, which starts every text with <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<s>", "</s>"])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    wrap: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = wrap(
        tokenizer_object=inner, bos_token="<s>", eos_token=eos
    )
    return tokenizer


TOKENIZER = byte_tokenizer()


def write_json(path: Path, value: object) -> str:
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


def write_lines(path: Path, values: list[Any]) -> str:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return str(path)


def write_csv(path: Path, values: list[dict[str, str]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(values[0]))
        writer.writeheader()
        writer.writerows(values)
    return str(path)


WRITERS: dict[str, Callable[[Path, list[Any]], str]] = {
    ".json": write_json,
    ".jsonl": write_lines,
    ".csv": write_csv,
}
TASK = {
    "Categories": ["Sums", "Numbers"],
    "Definition": ["Add the numbers."],
    "Instances": [
        {"id": "a", "input": "1 + 1", "output": ["2", "two"]},
        {"id": "b", "input": "2 + 2", "output": [""]},
    ],
}

# Where rows come from


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("fields", "row"),
    [
        (
            {"instruction": "i", "context": "c", "response": "r", "category": "k"},
            Row("i", "c", "r", "k"),
        ),
        ({"instruction": "i", "input": "c", "output": "r"}, Row("i", "c", "r", "")),
        ({"prompt": "i", "completion": "r"}, Row("i", "", "r", "")),
        ({"input": "i", "output": "r", "label": "k"}, Row("i", "", "r", "k")),
        ({"instruction": "i", "response": "r"}, Row("i", "", "r", "")),
        ({"instruction": "i", "output": "r", "task": "t"}, Row("i", "", "r", "t", "t")),
        (
            {"instruction": "i", "input": "c", "output": "r", "prompt": "i c"},
            Row("i", "c", "r", ""),
        ),
        (
            {"prompt": "i", "completion": "r", "category": "k", "task": "t"},
            Row("i", "", "r", "k", "t"),
        ),
    ],
)
def test_every_family_in_every_kind_of_file(
    tmp_path: Path, suffix: str, fields: dict[str, str], row: Row
) -> None:
    source = WRITERS[suffix](tmp_path / f"rows{suffix}", [fields])
    assert load_rows(source).rows == [row]


@pytest.mark.parametrize("suffix", WRITERS)
def test_text_survives_and_empty_responses_are_counted(tmp_path: Path, suffix: str) -> None:
    odd = 'a "quoted", {braced}\nsecond\r\nline \u2028 é'
    values = [
        {"instruction": odd, "context": odd, "response": odd, "category": odd},
        {"instruction": "i", "context": "", "response": " \n", "category": ""},
        {"instruction": "i", "context": "", "response": "", "category": ""},
        {"instruction": "", "context": "", "response": "r", "category": ""},
    ]
    loaded = load_rows(WRITERS[suffix](tmp_path / f"rows{suffix}", values))
    assert loaded.rows == [Row(odd, odd, odd, odd), Row("", "", "r", "")]
    assert loaded.empty_responses == 2


def test_a_byte_order_mark_blank_lines_and_bare_separators_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "rows.JSONL"
    line = json.dumps({"prompt": "a\u2028b", "completion": "c"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"\r\n{line}\r\n\n{line}".encode())
    assert load_rows(str(path)).rows == [Row("a\u2028b", "", "c", "")] * 2


def test_numbers_are_text_and_null_is_nothing(tmp_path: Path) -> None:
    value = {"instruction": "i", "context": None, "response": 4, "category": None, "label": 0}
    source = write_json(tmp_path / "rows.json", [value, {**value, "response": None}])
    loaded = load_rows(source)
    assert loaded.rows == [Row("i", "", "4", "0")]
    assert loaded.empty_responses == 1


def test_a_column_that_is_no_label_is_no_category() -> None:
    fields = {"prompt": "i", "completion": "r", "category": ["a"], "task": {}, "label": "k"}
    assert row_from_fields(fields, "here") == Row("i", "", "r", "k")


def test_natural_instructions_task_and_folder(tmp_path: Path) -> None:
    first = write_json(tmp_path / "task2_sums.json", TASK)
    write_json(tmp_path / "task1_more.json", {**TASK, "Categories": []})
    write_json(tmp_path / "notes.json", "not a task")
    row = Row("Add the numbers.", "1 + 1", "2", "Sums", "task2_sums")
    loaded = load_rows(first)
    assert (loaded.rows, loaded.empty_responses) == ([row], 1)
    other = Row("Add the numbers.", "1 + 1", "2", "task1_more", "task1_more")
    loaded = load_rows(str(tmp_path))
    assert (loaded.rows, loaded.empty_responses) == ([other, row], 2)


def test_builtin_rows() -> None:
    loaded = load_rows("builtin")
    assert loaded.empty_responses == 0
    assert all(row.instruction and row.category for row in loaded.rows)
    assert load_rows(str(builtin.INSTRUCTIONS)).rows == loaded.rows


# The hub


@pytest.mark.parametrize("names", [["train"], ["test"], ["test", "train", "more"]])
def test_hub_id_gives_train_or_the_only_split(
    monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    asked = []

    def load_dataset(source: str) -> dict[str, list[dict[str, str]]]:
        asked.append(source)
        return {name: [{"prompt": name, "completion": "r"}] for name in names}

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    expected = "train" if "train" in names else "test"
    assert load_rows("owner/some-name_1.0").rows == [Row(expected, "", "r", "")]
    assert asked == ["owner/some-name_1.0"]


def test_hub_data_set_is_read_by_the_real_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    fields = {"instruction": "i", "input": "c", "output": "r"}
    write_lines(folder / "train.jsonl", [fields, {**fields, "input": None}])
    records = [record for _, record in hub_records(str(folder))]
    assert [row_from_fields(record, "here") for record in records] == [
        Row("i", "c", "r", ""),
        Row("i", "", "r", ""),
    ]


def refused(source: str) -> str:
    """The message of the error that loading ends with; it must be one line."""
    with pytest.raises(UserError) as caught:
        load_rows(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_hub_errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: str) -> None:
        raise ConnectionError(f"cannot reach {source}\nand more")

    monkeypatch.setattr("datasets.load_dataset", fails)
    assert refused("owner/name") == (
        "'owner/name' is no file or folder here, and no data set by that id came:"
        " cannot reach owner/name"
    )
    monkeypatch.setattr("datasets.load_dataset", lambda _: {"a": [], "b": []})
    assert refused("name") == (
        "data set 'name': splits a, b; allowed: one named train, or only one"
    )
    monkeypatch.setattr("datasets.load_dataset", lambda _: {"train": [{"text": "t"}]})
    assert refused("name").startswith("data set 'name', row 1: unknown fields: text; allowed: ")


# Bad input


@pytest.mark.parametrize("name", ["missing.jsonl", "a/missing.csv", "no/such/folder", "../up"])
def test_missing_paths_never_reach_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", lambda _: pytest.fail("the hub was asked"))
    assert refused(name) == f"{name}: no such file or folder"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", ": unknown suffix '.txt'; allowed: .json, .jsonl, .csv, or a folder"),
        ("a.json", b'[\n{"prompt": }]', ", line 2: Expecting value; allowed: one list of"),
        ("a.json", b"{}\n{}", ", line 2: Extra data; allowed: one list of objects (one object a"),
        ("a.json", b'{"text": 1, "x": 2}', ": found text, x; allowed: a list of objects, or a"),
        ("a.json", b"{}", ": found an empty object; allowed: a list of objects, or a"),
        ("a.json", b"3", ": found int; allowed: a list of objects, or a"),
        ("a.json", b"[3]", ", item 1: a value of type int where an object with named fields is"),
        ("a.json", b"[]", ": no usable rows: 0 read, each with an empty response; allowed: "),
        ("a.json", b"[1" + 5000 * b"0" + b"]", ": Exceeds the limit"),
        ("a.json", b"\xff", ": not UTF-8 at byte 0; allowed: UTF-8"),
        ("a.jsonl", b'{"prompt": 1}\n\n{"prompt"', ", line 1: unknown fields: prompt; allowed: "),
        ("a.jsonl", b"\n\n{,}", ", line 3: Expecting property name enclosed in double quotes;"),
        ("a.jsonl", b"1" + 5000 * b"0", ", line 1: Exceeds the limit"),
        ("a.jsonl", b'{"prompt": "a", "completion": " "}', ": no usable rows: 1 read, each with"),
        (
            "a.jsonl",
            b'{"prompt": "a", "completion": ["b"]}',
            ", line 1: field 'completion' is a value of type list; allowed: text or a number",
        ),
        (
            "a.jsonl",
            b'{"prompt": "\\ud800", "completion": "b"}',
            ", line 1: field 'prompt' holds half a surrogate pair, not text",
        ),
        ("a.csv", b"", ": no usable rows: 0 read"),
        ("a.csv", b"prompt,completion\na,b,c\n", ", line 2: more columns than the header's 2"),
        ("a.csv", b'prompt,completion\na,"b\n', ", line 2: unexpected end of data"),
        ("a.csv", b"question,answer\na,b\n", ", line 2: unknown fields: question, answer; allowed"),
    ],
)
def test_bad_files_are_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert refused(str(path)).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "t"},
        {},
        {"instruction": "i"},
        {"instruction": "i", "input": "ignored?", "response": "r"},
        {"instruction": "i", "context": "ignored?", "output": "r"},
    ],
)
def test_unknown_fields_name_what_is_found_and_allowed(fields: dict[str, str]) -> None:
    with pytest.raises(UserError) as caught:
        row_from_fields(fields, "here")
    assert str(caught.value) == (
        f"here: unknown fields: {', '.join(fields) or 'none'}; allowed:"
        " instruction/context/response, instruction/input/output, prompt/completion, input/output"
        " (context and the input beside an instruction may be missing)"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Definition": "text"}, ": Definition: allowed: a list of texts"),
        ({"Categories": [1]}, ": Categories: allowed: a list of texts"),
        ({"Instances": {}}, ": Instances is no list; allowed: a list of input and output"),
        ({"Instances": [{"input": "i"}]}, ", instance 1: allowed: an object with the fields"),
        (
            {"Instances": [{"input": "i", "output": "o"}]},
            ", instance 1: output: allowed: a list of texts",
        ),
        ({"Instances": []}, ": no usable rows: 0 read"),
    ],
)
def test_bad_tasks_are_told_in_one_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    source = write_json(tmp_path / "task1.json", {**TASK, **change})
    assert refused(source).startswith(f"{source}{message}")


def test_folders_without_tasks_and_folders_named_like_files(tmp_path: Path) -> None:
    assert refused(str(tmp_path)).startswith(f"{tmp_path}: no task*.json in this folder; allowed:")
    folder = tmp_path / "task1.json"
    folder.mkdir()
    assert refused(str(tmp_path)) == f"{folder}: Is a directory"


# The prompt


def test_prompt_is_alpacas() -> None:
    assert prompt(Row("Add {x}.", "1 + 1", "2", "")) == (
        "Below is an instruction that describes a task, paired with an input that provides further"
        " context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd {x}.\n\n### Input:\n1 + 1\n\n### Response:\n"
    )
    assert prompt(Row("Add.", " \n", "2", "")) == (
        "Below is an instruction that describes a task. Write a response that appropriately"
        " completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n"
    )


# Token ids

texts = st.text(st.characters(codec="utf-8"), max_size=30)
row_lists = st.lists(
    st.builds(Row, texts, texts, texts.filter(bool), texts, texts), min_size=1, max_size=6
)


def reference(
    rows: list[Row], max_length: int, drop_long: bool = False
) -> list[tuple[list[int], int, str, str]]:
    """What `encode` keeps, row by row: (ids, prompt length, category, task)."""
    kept = []
    for row in rows:
        head = TOKENIZER(prompt(row))["input_ids"]
        ids = head + TOKENIZER(row.response, add_special_tokens=False)["input_ids"] + [EOS]
        if len(ids[:max_length]) > len(head) and not (drop_long and len(ids) > max_length):
            kept.append((ids[:max_length], len(head), row.category, row.task))
    return kept


def unpacked(encoded: Encoded) -> list[tuple[list[int], int, str, str]]:
    return [
        (
            encoded.tokens[encoded.offsets[i] : encoded.offsets[i + 1]].tolist(),
            int(encoded.prompt_lengths[i]),
            encoded.category_names[encoded.categories[i]],
            encoded.task_names[encoded.tasks[i]],
        )
        for i in range(len(encoded))
    ]


@settings(deadline=None)
@given(row_lists, st.integers(2, 400), st.booleans())
def test_encode_is_its_reference(rows: list[Row], max_length: int, drop_long: bool) -> None:
    expected = reference(rows, max_length, drop_long)
    if expected:
        encoded = encode(rows, TOKENIZER, max_length, drop_long=drop_long)
        assert unpacked(encoded) == expected
        assert encoded.cut_away == len(rows) - len(expected)
    else:
        missing = "whole row" if drop_long else "response"
        with pytest.raises(UserError, match=f"leaves no {missing}"):
            encode(rows, TOKENIZER, max_length, drop_long=drop_long)


def test_more_rows_than_a_chunk_stay_in_order() -> None:
    rows = [Row(str(i), "", str(i), str(i % 7)) for i in range(1000)]
    assert unpacked(encode(rows, TOKENIZER, 1000)) == reference(rows, 1000)


ROW = Row("i", "", "abc", "k")
HEAD = 1 + len(prompt(ROW))


@pytest.mark.parametrize(
    ("room", "tail"),
    [(1, "a"), (2, "ab"), (3, "abc"), (4, "abc</s>"), (5, "abc</s>")],
)
def test_truncation_at_its_borders(room: int, tail: str) -> None:
    encoded = encode([ROW], TOKENIZER, HEAD + room)
    assert (encoded.prompt_lengths.tolist(), encoded.cut_away) == ([HEAD], 0)
    assert encoded.tokens[0] == BOS
    assert TOKENIZER.decode(encoded.tokens[1:]) == prompt(ROW) + tail


def test_long_rows_are_dropped_where_they_are_not_cut() -> None:
    longer = Row("i", "", "abcd", "other")
    encoded = encode([longer, ROW, longer], TOKENIZER, HEAD + 4, drop_long=True)
    assert (len(encoded), encoded.cut_away, encoded.category_names) == (1, 2, ("k",))
    assert TOKENIZER.decode(encoded.tokens[1:]) == prompt(ROW) + "abc</s>"
    with pytest.raises(UserError) as caught:
        encode([ROW, ROW], TOKENIZER, HEAD + 3, drop_long=True)
    assert str(caught.value) == (
        f"max_length {HEAD + 3} leaves no whole row in any of 2 rows;"
        " allowed: longer than the shortest row"
    )


@pytest.mark.parametrize("max_length", [2, HEAD - 1, HEAD])
def test_a_response_cut_away_whole_is_dropped(max_length: int) -> None:
    with pytest.raises(UserError) as caught:
        encode([ROW, ROW], TOKENIZER, max_length)
    assert str(caught.value) == (
        f"max_length {max_length} leaves no response in any of 2 rows;"
        " allowed: longer than the shortest prompt"
    )
    longer = Row("i" + 20 * "x", "", "abc", "other")
    encoded = encode([longer, ROW, longer], TOKENIZER, HEAD + 1)
    assert (len(encoded), encoded.cut_away, encoded.category_names) == (1, 2, ("k",))


def test_a_response_without_a_token_of_its_own_is_dropped() -> None:
    tokenizer = byte_tokenizer(normalizer=normalizers.Replace("\x00", ""))
    encoded = encode([ROW, Row("i", "", "\x00", "k")], tokenizer, 1000)
    assert (len(encoded), encoded.cut_away) == (1, 1)


def test_encode_refuses_what_cannot_be() -> None:
    with pytest.raises(UserError, match=r"^max_length 1; allowed: at least 2"):
        encode([ROW], TOKENIZER, 1)
    with pytest.raises(UserError, match=r"^the tokenizer has no end-of-sequence token"):
        encode([ROW], byte_tokenizer(eos=None), 100)


def test_default_max_length_is_the_models_or_1024() -> None:
    assert [default_max_length(n) for n in (512, 1024, 2048)] == [512, 1024, 1024]


@settings(deadline=None, max_examples=25)
@given(row_lists)
def test_saved_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("saved") / "rows.bin"
    encoded = replace(encode(rows, TOKENIZER, 1000), test_tasks=(rows[0].task, "é"))
    encoded.save(path)
    loaded = Encoded.load(path)
    assert unpacked(loaded) == unpacked(encoded)
    assert loaded.test_tasks == encoded.test_tasks
    assert loaded.cut_away == encoded.cut_away
    for name in ("tokens", "offsets", "prompt_lengths", "categories", "tasks"):
        assert getattr(loaded, name).dtype == getattr(encoded, name).dtype


def test_load_refuses_what_is_no_saved_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    with pytest.raises(UserError, match=r"no such file$"):
        Encoded.load(path)
    encode([ROW], TOKENIZER, 1000).save(path)
    whole = path.read_bytes()
    np.savez(path, tokens=np.zeros(3))
    other = path.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    array = (tmp_path / "array.npy").read_bytes()
    np.savez(path, allow_pickle=True, tokens=np.array([{}], dtype=object))
    pickled = path.read_bytes()
    for content in (b"", b"text", whole[:-30], other, array, pickled):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"no encoded rows; allowed: a file saved by kseed$"):
            Encoded.load(path)


# Batches


def test_batch_pads_on_the_right_and_labels_only_responses() -> None:
    rows = [Row("i", "", "abc", ""), Row("i", "", "d", ""), Row("ii", "c", "efgh", "")]
    encoded = encode(rows, TOKENIZER, 1000)
    input_ids, attention_mask, labels = (
        tensor.numpy() for tensor in batch(encoded, [1, 0, 1], pad_id=EOS)
    )
    long, short = (prompt(ROW) + text for text in ("abc</s>", "d</s>"))
    assert {array.dtype for array in (input_ids, attention_mask, labels)} == {np.dtype("int64")}
    assert {array.shape for array in (input_ids, attention_mask, labels)} == {(3, HEAD + 4)}
    assert [TOKENIZER.decode(ids[1:]) for ids in input_ids] == [
        short + "</s></s>",
        long,
        short + "</s></s>",
    ]
    assert attention_mask.sum(axis=1).tolist() == [HEAD + 2, HEAD + 4, HEAD + 2]
    assert (np.diff(attention_mask, axis=1) <= 0).all()
    assert (labels[:, :HEAD] == -100).all()
    assert TOKENIZER.decode(labels[1, HEAD:]) == "abc</s>"
    assert labels[0, HEAD:].tolist() == [*TOKENIZER("d")["input_ids"][1:], EOS, -100, -100]
    alone, _, _ = batch(encoded, np.array([1]), pad_id=0)
    assert alone.shape == (1, HEAD + 2)


def test_reading_and_encoding_need_no_torch() -> None:
    program = (
        "import sys, peer.data.rows, peer.data.encode, peer.data.division\n"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert run.stdout.split() == [b"[]"]


# Real data


@needs(DOLLY)
@needs(STORIES)
@pytest.mark.slow
def test_dolly_with_a_real_tokenizer() -> None:
    loaded = load_rows(str(DOLLY))
    assert (len(loaded.rows), loaded.empty_responses) == (15_011, 0)
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    encoded = encode(loaded.rows, tokenizer, 512)
    assert len(encoded) + encoded.cut_away == 15_011
    assert np.diff(encoded.offsets).max() == 512
    assert len(encoded.category_names) == 8
    assert (encoded.tokens[encoded.offsets[:-1]] == tokenizer.bos_token_id).all()
    for i in (0, len(encoded) // 2, len(encoded) - 1):
        start, end = encoded.offsets[i], encoded.offsets[i + 1]
        head = str(tokenizer.decode(encoded.tokens[start : start + encoded.prompt_lengths[i]]))
        assert head.startswith("<s> Below is an instruction")
        assert head.endswith("### Response:\n")
        assert (encoded.tokens[end - 1] == tokenizer.eos_token_id) == (end - start < 512)


@needs(TASKS)
def test_natural_instructions_files() -> None:
    loaded = load_rows(str(TASKS))
    assert len(loaded.rows) + loaded.empty_responses == 14_981
    assert loaded.empty_responses == 1
    assert len({row.task for row in loaded.rows}) == 80
    capital = load_rows(str(TASKS / "task1146_country_capital.json"))
    assert capital.rows[0] == Row(
        "In this task, you are given a country name and you need to return the capital city of the"
        " given country",
        "Afghanistan",
        "Kabul",
        "Misc.",
        "task1146_country_capital",
    )
    assert len(capital.rows) == 200
