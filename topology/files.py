"""Graphs from files, and back: GraphML, edge lists, node-link JSON.

| suffix                   | read as                                                          |
| ------------------------ | ---------------------------------------------------------------- |
| .graphml                 | GraphML: ids of nodes, ends of edges; all attributes are ignored |
| .edges, .edgelist, .txt  | two ids a line, separated by spaces or tabs; # starts a comment  |
| .json                    | node-link JSON: "nodes" with "id" and perhaps "name", "edges"    |
|                          | (or "links") with "source" and "target"; or a list of lists of   |
|                          | pairs of ids: the graphs of a sequence that varies over time     |

A file sets the number of peers. They are numbered in the order of their ids: by value if all are
integers, else as text. An id is also the peer's name, where the file gives no other. What a
topology cannot have is taken away with a note: directions, repeated links, links of a node to
itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from topology.graph import Topology, TopologyError
from topology.varying import Edges, from_slots


@dataclass(frozen=True)
class _Contents:
    """What a file says, before any of it is numbered or mended."""

    ids: list[str]
    slots: list[list[tuple[str, str]]]
    """The links; more than one list only if they vary over time."""
    varies: bool = False
    directed: bool = False
    names: dict[str, str] = field(default_factory=dict)
    """Node ids to the names to use instead."""
    name: str | None = None
    notes: tuple[str, ...] = ()


def load(path: str | Path) -> Topology:
    """Return the topology that a file holds; its suffix says how the file is read.

    Raises:
        TopologyError: the file is missing, unreadable, malformed or of another suffix, or its graph
            is not connected or has fewer than two nodes.
    """
    path = Path(path)
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise TopologyError(
            f"{path} has no suffix that graphs are read from: {', '.join(SUFFIXES)}"
        )
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TopologyError(f"{path} cannot be read: {reason}") from error
    try:
        return _numbered(parse(data), path.stem)
    except TopologyError as error:
        raise TopologyError(f"{path}: {error}") from error


def to_node_link(topology: Topology) -> dict[str, Any]:
    """Return the node-link form of a topology, for JSON; `load` reads it back equal.

    Of one that varies over time it is the union of all slots.
    """
    return {
        "directed": False,
        "multigraph": False,
        "graph": {"name": topology.name, "notes": list(topology.notes)},
        "nodes": [{"id": peer, "name": topology.names[peer]} for peer in topology.nodes],
        "edges": [{"source": i, "target": j} for i, j in topology.edges],
    }


def save(topology: Topology, path: str | Path) -> None:
    """Write the node-link form of a topology to a .json file.

    Raises:
        TopologyError: another suffix, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".json":
        raise TopologyError(f"a topology is saved as .json; {path} given")
    try:
        path.write_text(json.dumps(to_node_link(topology), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise TopologyError(f"{path} cannot be written: {error.strerror}") from error


def _numbered(contents: _Contents, stem: str) -> Topology:
    ids = _in_order(contents.ids)
    number = {each: peer for peer, each in enumerate(ids)}
    slots: list[Edges] = []
    repeats = loops = 0
    for links in contents.slots:
        pairs = [(number[a], number[b]) for a, b in links if a != b]
        slots.append(frozenset((min(pair), max(pair)) for pair in pairs))
        repeats += len(pairs) - len(slots[-1])
        loops += len(links) - len(pairs)
    notes = [*contents.notes]
    if contents.directed:
        notes.append("Directions were dropped: links work both ways.")
    if repeats:
        notes.append(f"Repeated links were merged: {repeats} fewer.")
    if loops:
        notes.append(f"Links of a node to itself were dropped: {loops} fewer.")
    name, names = contents.name or stem, tuple(contents.names.get(each, each) for each in ids)
    if contents.varies:
        return from_slots(name, names, slots, tuple(notes))
    return Topology(name, tuple(sorted(slots[0])), names, tuple(notes))


def _in_order(ids: list[str]) -> list[str]:
    if all(re.fullmatch("-?[0-9]{1,18}", each) for each in ids):
        return sorted(ids, key=lambda each: (int(each), each))
    return sorted(ids)


def _edge_list(data: bytes) -> _Contents:
    edges = []
    for number, line in enumerate(_decoded(data).splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 2:
            raise TopologyError(
                f"line {number} has {len(fields)} fields; a link is two ids and nothing else"
            )
        edges.append((fields[0], fields[1]))
    return _Contents(_ends([edges]), [edges])


def _ends(slots: list[list[tuple[str, str]]]) -> list[str]:
    return list(dict.fromkeys(end for edges in slots for edge in edges for end in edge))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TopologyError("not text in UTF-8") from error


def _graphml(data: bytes) -> _Contents:
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise TopologyError(f"not well-formed XML: {error}") from error
    graphs = root.findall(".//{*}graph")
    if len(graphs) != 1:
        raise TopologyError(f"GraphML has one graph, not nested; this has {len(graphs)}")
    if graphs[0].find("{*}hyperedge") is not None:
        raise TopologyError("a hyperedge is no link between two peers")
    ids = [_attribute(node, "id") for node in graphs[0].findall("{*}node")]
    links = graphs[0].findall("{*}edge")
    edges = [(_attribute(link, "source"), _attribute(link, "target")) for link in links]
    default = "true" if graphs[0].get("edgedefault") == "directed" else "false"
    directed = any(link.get("directed", default) == "true" for link in links)
    return _checked(_Contents(ids, [edges], directed=directed))


def _attribute(element: ElementTree.Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise TopologyError(f"{element.tag.rpartition('}')[2]} without {name}")
    return value


def _json(data: bytes) -> _Contents:
    try:
        document = json.loads(_decoded(data))
    except TopologyError:
        raise
    except (ValueError, RecursionError) as error:
        raise TopologyError(f"not JSON: {error}") from error
    if isinstance(document, list):
        return _sequence(document)
    if not isinstance(document, dict):
        raise TopologyError("node-link JSON is an object with nodes and edges")
    nodes = _objects(document, "nodes")
    old_key = "links" in document and "edges" not in document
    links = _objects(document, "links" if old_key else "edges")
    header = document.get("graph")
    name, notes = (
        (header.get("name"), header.get("notes")) if isinstance(header, dict) else (None, None)
    )
    contents = _Contents(
        ids=[_label(node, "id") for node in nodes],
        slots=[[(_label(link, "source"), _label(link, "target")) for link in links]],
        directed=document.get("directed") is True,
        names={str(node["id"]): node["name"] for node in nodes if _is_line(node.get("name"))},
        name=name if _is_line(name) else None,
        notes=tuple(filter(_is_line, notes)) if isinstance(notes, list) else (),
    )
    return _checked(contents)


def _sequence(document: list[Any]) -> _Contents:
    slots = []
    for place, links in enumerate(document):
        if not isinstance(links, list):
            raise TopologyError(f"graph {place} of the sequence is no list of links")
        for link in links:
            if not (isinstance(link, list) and len(link) == 2 and all(map(_is_id, link))):
                raise TopologyError(
                    f"a link of graph {place} is no pair of ids, which are text or integers"
                )
        slots.append([(str(a), str(b)) for a, b in links])
    return _Contents(_ends(slots), slots, varies=True)


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = document.get(key)
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise TopologyError(f"node-link JSON needs {key!r}, a list of objects")
    return rows


def _label(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not _is_id(value):
        raise TopologyError(f"every {key!r} in node-link JSON is text or an integer")
    return str(value)


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _checked(contents: _Contents) -> _Contents:
    """Refuse repeated nodes, and edges to nodes that the file does not list."""
    known = set(contents.ids)
    if len(known) < len(contents.ids):
        raise TopologyError("two nodes have the same id")
    for end in _ends(contents.slots):
        if end not in known:
            raise TopologyError(f"an edge ends at {end!a}, which is no node of the graph")
    return contents


_PARSERS: dict[str, Callable[[bytes], _Contents]] = {
    ".graphml": _graphml,
    ".json": _json,
    ".edges": _edge_list,
    ".edgelist": _edge_list,
    ".txt": _edge_list,
}

SUFFIXES: tuple[str, ...] = tuple(_PARSERS)
"""The suffixes of files that `load` takes."""
