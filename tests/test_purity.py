"""The pure protocol has no I/O, no clock and no chance in it, and imports go one way (C5)."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
(PURE,) = (
    [module.removeprefix("peer.") for module in contract["source_modules"]]
    for contract in CONTRACTS
    if contract["name"].startswith("the protocol is pure")
)
"""The modules that the import checker, too, holds to it."""

ALLOWED = {
    "__future__",
    "bisect",
    "collections",
    "cryptography",
    "dataclasses",
    "difflib",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "msgpack",
    "numpy",
    "peer",
    "re",
    "statistics",
    "struct",
    "typing",
    "weakref",
    "zlib",
}
FORBIDDEN = {
    "asyncio",
    "concurrent",
    "datetime",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "torch",
    "transformers",
    "uuid",
    "zmq",
}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it, with their full names."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def sources(*names: str) -> list[Path]:
    found = [path for name in names for path in sorted((ROOT / name).rglob("*.py"))]
    assert len(found) > 5
    return found


def files_of(name: str) -> list[Path]:
    """The file of a module of `peer`, or those of a package."""
    folder = ROOT / "peer" / name
    files = sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    assert files
    return files


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_only_what_is_pure(name: str) -> None:
    for path in files_of(name):
        found = packages(path)
        assert not found & FORBIDDEN
        assert found <= ALLOWED
        of_peer = {full.split(".")[1] for full in imports(path) if full.startswith("peer.")}
        assert of_peer <= set(PURE)


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_draws_no_numbers_and_opens_no_files(name: str) -> None:
    for node in (node for path in files_of(name) for node in ast.walk(tree_of(path))):
        if isinstance(node, ast.Attribute):
            assert node.attr != "random"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "id", "__import__"}
        if isinstance(node, ast.FunctionDef) and node.name != "__hash__":
            # Sets and dictionaries may hash; nothing else may come of numbers that differ by run.
            names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            assert "hash" not in names
        assert not isinstance(node, ast.Global)


def modules_after(*imported: str) -> set[str]:
    """The top-level modules of a fresh interpreter that has imported these."""
    program = f"import sys\nimport {', '.join(imported)}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_pure_protocol_loads_no_framework_and_no_socket_library() -> None:
    loaded = modules_after(*(f"peer.{name}" for name in PURE))
    assert "peer" in loaded
    assert not loaded & {"torch", "zmq", "transformers", "numba", "matplotlib", "networkx"}
    assert not loaded & {"sim", "topology", "asyncio", "multiprocessing"}


def test_the_simulator_runs_without_torch() -> None:
    loaded = modules_after("sim.world", "peer.trainer", "topology")
    assert not loaded & {"torch", "zmq", "transformers"}


def test_packages_load_nothing_heavy_by_themselves() -> None:
    heavy = {"torch", "zmq", "transformers", "datasets", "numba", "matplotlib"}
    assert not modules_after("peer", "sim", "topology") & heavy


@pytest.mark.parametrize("path", sources("peer"), ids=lambda path: path.stem)
def test_a_peer_never_imports_the_simulator(path: Path) -> None:
    assert "sim" not in packages(path)


@pytest.mark.parametrize("path", sources("topology"), ids=lambda path: path.stem)
def test_topology_imports_neither_peers_nor_the_simulator(path: Path) -> None:
    assert not packages(path) & {"sim", "peer"}


def test_zeromq_has_one_door() -> None:
    users = {path.parent for path in sources("peer", "sim", "topology") if "zmq" in packages(path)}
    assert users == {ROOT / "peer" / "zeromq"}
