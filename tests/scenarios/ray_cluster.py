"""A Ray cluster of two nodes on this machine, in a process of its own; gone when its input ends.

It says the cluster's address, and does what the lines of its input ask for: remove (the node that
was added last, as if its machine had failed), or add. Each is answered when it is done.
"""

from __future__ import annotations

import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster


def main() -> None:
    node = {"num_cpus": 1, "object_store_memory": 2**27}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    nodes = [cluster.add_node(**node)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line == "remove\n":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            nodes.append(cluster.add_node(**node))
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
