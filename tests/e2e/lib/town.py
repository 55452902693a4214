# SPDX-License-Identifier: Apache-2.0
"""The topology that most scenarios use.

    node-a: frontend, catalog-1          node-b: catalog-2, payments, stranger (not in the mesh)

Services in namespace shop: catalog (10.60.0.20, fd60::20; port 80 to 8080, on both nodes), payments (10.60.0.30,
fd60::30; TCP 7000, UDP 7001), local (10.60.0.40, fd60::40: catalog-1 only, so same-node from frontend).
The port names say tcp: HTTP is another suite's."""
from . import traffic
from .mesh import Mesh, namespace, service, workload

TRUST = "cluster.local"


class Town:
    def __init__(self, net):
        self.net, self.mesh = net, Mesh(net)

    def __getattr__(self, name):
        pods = self.__dict__["net"].pods
        key = name.replace("_", "-")
        if key in pods:
            return pods[key]
        raise AttributeError(name)

    def agent(self, node):
        return self.mesh.agents[node]

    def apply(self, name, *documents):
        """One file of documents, in force on all nodes and without a complaint."""
        self.mesh.write(name, "".join(documents))
        self.mesh.settle()
        for agent in self.mesh.agents.values():
            assert agent.api("/v1/status")["config"]["problems"] == []

    @property
    def node_a(self):
        return self.net.nodes["node-a"]

    @property
    def node_b(self):
        return self.net.nodes["node-b"]


def principal(account, ns="shop"):
    return f"spiffe://{TRUST}/ns/{ns}/sa/{account}"


def base_config(net, ns="shop"):
    pods = net.pods
    text = namespace(ns) + namespace("outside", enrolled=False)
    text += workload(pods["frontend"], ns, "frontend")
    text += workload(pods["catalog-1"], ns, "catalog")
    text += workload(pods["catalog-2"], ns, "catalog", version="v2")
    text += workload(pods["payments"], ns, "payments")
    text += service("catalog", ns, [("tcp", 80, 8080, "TCP")], ["10.60.0.20", "fd60::20"])
    text += service("payments", ns, [("tcp-ledger", 7000, 7000, "TCP"), ("udp-notify", 7001, 7001, "UDP")],
                    ["10.60.0.30", "fd60::30"])
    # a service of catalog-1 alone, by its version
    text += service("local", ns, [("tcp", 80, 8080, "TCP")], ["10.60.0.40", "fd60::40"], app="catalog, version: v1")
    return text


def pods(net):
    net.node("node-a")
    net.node("node-b")
    net.pod("frontend", "node-a", 10)
    net.pod("catalog-1", "node-a", 20)
    net.pod("catalog-2", "node-b", 20)
    net.pod("payments", "node-b", 30)
    net.pod("stranger", "node-b", 90)


def servers(net):
    for name, port in (("frontend", 8080), ("catalog-1", 8080), ("catalog-2", 8080), ("payments", 7000),
                       ("payments", 7002), ("stranger", 8080)):
        traffic.serve(net.pods[name], port)
    traffic.serve(net.pods["payments"], 7001, udp=True)
    traffic.serve(net.pods["catalog-1"], 7001, udp=True)


def build(net, mesh_yaml="trustDomain: cluster.local\n", more=""):
    pods(net)
    servers(net)
    made = Town(net)
    made.mesh.write("10-mesh.yaml", mesh_yaml)
    made.mesh.write("00-workloads.yaml", base_config(net) + more)
    made.mesh.start()
    return made
