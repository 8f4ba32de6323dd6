"""A Ray cluster of several nodes on this machine, in a process of its own: Ray forks, which a
process with JAX's threads must not.

Prints the address; reads "remove N" from standard input, of which node N is lost at once; ends with
the input.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        nodes = [
            cluster.add_node(wait=False, num_cpus=1, resources={"chip": 4})
            for _ in range(int(sys.argv[1]))
        ]
        cluster.wait_for_nodes()
        print(cluster.address, flush=True)
        for line in sys.stdin:
            cluster.remove_node(nodes[int(line.split()[1])], allow_graceful=False)
    finally:
        cluster.shutdown()
