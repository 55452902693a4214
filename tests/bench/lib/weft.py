# SPDX-License-Identifier: Apache-2.0
"""Weft: an agent and its helper on either node, the services by their virtual addresses."""
import os

from e2e.lib.mesh import Agent, Mesh, namespace, service, workload
from e2e.lib.shell import BUILD, Failed, wait_for

from . import procs
from .candidate import Candidate, Missing
from .load import ECHO_PORT, SINK_PORT

VIPS = {"samenode": ("10.60.0.12", "fd60::12"), "hbone": ("10.60.0.21", "fd60::21")}
STRICT = ("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
          "metadata: { name: default, namespace: bench }\nspec: { mtls: { mode: STRICT } }\n---\n")
ALLOW = ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
         "metadata: { name: clients, namespace: bench }\nspec:\n  action: ALLOW\n"
         "  rules: [ { from: [ { source: { principals: [ cluster.local/ns/bench/sa/client ] } } ] } ]\n---\n")


def configuration(bench):
    """The bench's pods in STRICT mode, the client allowed by its identity, two services."""
    ports = [("tcp-echo", ECHO_PORT, ECHO_PORT, "TCP"), ("tcp-sink", SINK_PORT, SINK_PORT, "TCP")]
    text = namespace("bench") + STRICT + ALLOW + workload(bench.client, "bench", "client")
    for name, addresses in VIPS.items():
        text += workload(bench.server(name), "bench", name, account="server")
        text += service(name, "bench", ports, addresses)
    return text


def binaries_exist():
    return all(os.path.exists(os.path.join(BUILD, name)) for name in ("weftd", "weft-helper"))


class NamedMesh(Mesh):
    """A configuration directory of its own, and agents that keep their state apart from those of other meshes."""

    def __init__(self, net, name):
        super().__init__(net)
        self.directory = os.path.join(net.directory, name)
        self.config, self.ca = os.path.join(self.directory, "config"), os.path.join(self.directory, "ca")
        os.makedirs(self.config)

    def agent(self, node):
        agent = Agent(self.net, node, self.config, self.ca)
        agent.state_dir = os.path.join(self.directory, f"state-{node.name}")
        os.makedirs(agent.state_dir)
        self.agents[node.name] = agent
        return agent


class Weft(Candidate):
    name = "weft"

    def __init__(self, bench):
        super().__init__(bench)
        if not binaries_exist():
            raise Missing(f"Weft: no weftd and weft-helper in {BUILD} (run make)")
        self.mesh = NamedMesh(bench.net, "weft")
        self.mesh.write("bench.yaml", configuration(bench))
        for node in bench.net.nodes.values():
            self.mesh.agent(node)
        self.running = False

    def activate(self):
        if self.running:
            return
        self.running = True  # also when half of it starts: deactivate() then cleans up
        for agent in self.mesh.agents.values():
            agent.start(wait=False)
        for agent in self.mesh.agents.values():
            agent.wait_ready()

    def deactivate(self):
        """Stops the agents and takes their programs off: nothing of them is in the others' way."""
        if self.running:
            for agent in self.mesh.agents.values():
                agent.cleanup()
        self.running = False

    def restart(self):
        self.deactivate()
        self.activate()

    def target(self, server, port):
        return VIPS[server][0 if self.bench.family == 4 else 1], port

    def helpers(self):
        pids = {node: agent.helper_pid() for node, agent in self.mesh.agents.items()}
        if not all(pids.values()):
            raise Failed(f"/v1/status names no helper process: {pids}")
        return pids

    def pids(self):
        return [*self.helpers().values(), *(agent.process.pid for agent in self.mesh.agents.values())]

    def proxies(self):
        helpers = self.helpers()
        return {"client": helpers["node-a"], "server": helpers["node-b"]}

    def agent_memory(self):
        return max(procs.rss_bytes(agent.process.pid) for agent in self.mesh.agents.values())

    def verify(self, server):
        """What the agent says of the connections: mutual TLS between nodes, attested within one."""
        path = {"samenode": "attested", "hbone": "hbone"}[server]
        agent = self.mesh.agents["node-a"]
        wait_for(f"a flow to {server} whose path is {path}", lambda: agent.flows(last=200, path=path), 3.0)
