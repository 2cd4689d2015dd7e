"""What an experiment runs on when nothing is downloaded: a small model and an instruction set.

Both are made by programs of this package: `pretrain` made the model from the text of `text`, and
`instructions` made the rows.
"""

from pathlib import Path

MODEL = Path(__file__).parent / "model"
"""A Hugging Face folder: a Llama of 201,920 parameters and its tokenizer."""

INSTRUCTIONS = Path(__file__).parent / "instructions.jsonl"
"""Rows with the fields instruction, context, response and category, one JSON object a line."""
