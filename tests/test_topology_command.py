"""`python -m topology`: what it prints, writes and refuses."""

import json
import subprocess
import sys

import pytest

from topology import build, describe, measure
from topology.__main__ import main


def test_table(capsys):
    assert main(["torus", "--peers", "16"]) == 0
    torus = build("torus", 16)
    assert capsys.readouterr().out == describe(torus, measure(torus)) + "\n"


def test_json_picture_and_options(capsys, tmp_path):
    arguments = ["random-regular", "--peers", "9", "--degree", "3", "--seed", "5", "--json"]
    assert main([*arguments, "--svg", str(tmp_path / "x.svg")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["name"] == "random-regular"
    assert (printed["nodes"], printed["edges"], printed["degree_mean"]) == (9, 18, 4.0)
    assert len(printed["notes"]) == 1
    assert (tmp_path / "x.svg").read_bytes().startswith(b"<?xml")


def test_files(capsys, tmp_path):
    (tmp_path / "x.edges").write_text("a b\nb c\n")
    assert main([str(tmp_path / "x.edges"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["diameter"] == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["torus", "--peers", "13"], "12 and 14 would do"),
        (["torus"], "torus needs a number of peers"),
        (["none.json"], "none.json cannot be read"),
        (["ring", "--peers", "4", "--svg", "x.png"], "is saved as .svg"),
        (["ring", "--peers", "many"], "argument --peers: invalid int value: 'many'"),
        ([], "required: FAMILY|FILE"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(arguments, line):
    command = [sys.executable, "-m", "topology", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert line in ended.stderr
    assert ended.stderr.startswith("python -m topology: ")
    assert ended.stderr.count("\n") == 1


def test_the_package_imports_neither_matplotlib_nor_scipy():
    code = (
        "import sys, topology; topology.measure(topology.build('torus', 2500)); print(*sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "scipy", "torch", "peer"} & set(ended.stdout.split())
