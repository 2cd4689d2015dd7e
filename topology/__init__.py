"""Who is whose neighbour: families of graphs, graphs from files, their measures and pictures.

    torus = topology.build("torus", 16)
    print(topology.describe(torus, topology.measure(torus)))

Pictures need matplotlib and are in `topology.drawing`, which is not imported here.
"""

from topology.families import FAMILIES, build
from topology.files import load, save, to_node_link
from topology.graph import Topology, TopologyError
from topology.measures import Measures, describe, measure
from topology.request import resolve
from topology.varying import VARYING, Varying

__all__ = [
    "FAMILIES",
    "VARYING",
    "Measures",
    "Topology",
    "TopologyError",
    "Varying",
    "build",
    "describe",
    "load",
    "measure",
    "resolve",
    "save",
    "to_node_link",
]
