# SPDX-License-Identifier: Apache-2.0
"""Weft carrying HTTP: one hop to a server outside of the mesh, and from pod to pod between two nodes."""
from e2e.lib.mesh import namespace, service, workload

from .candidate import Candidate, Missing
from .httpload import GRPC_PORT, H1_PORT, H2_PORT
from .weft import ALLOW, STRICT, NamedMesh, Weft, binaries_exist

VIPS = ("10.60.0.31", "fd60::31")
PORTS = [("http", H1_PORT, H1_PORT, "TCP"), ("http2", H2_PORT, H2_PORT, "TCP"), ("grpc", GRPC_PORT, GRPC_PORT, "TCP")]


RULES = ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
         "metadata: { name: clients, namespace: bench }\nspec:\n  action: ALLOW\n"
         "  rules: [ { from: [ { source: { principals: [ cluster.local/ns/bench/sa/client ] } } ],"
         " to: [ { operation: { methods: [ GET, POST ], paths: [ '/*' ] } } ] } ]\n---\n"
         "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
         "metadata: { name: nobody, namespace: bench }\nspec:\n  action: DENY\n"
         "  rules: [ { to: [ { operation: { paths: [ '/admin*' ] } } ] } ]\n---\n")


def outside(bench):
    rows = "".join(f"  - {{ name: {name}, number: {port}, protocol: {name.upper()} }}\n" for name, port, _, _ in PORTS)
    return ("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: app, namespace: bench }\n"
            f"spec:\n  hosts: [ app.bench.example ]\n  addresses: [ {VIPS[0]}, \"{VIPS[1]}\" ]\n  resolution: STATIC\n"
            f"  location: MESH_INTERNAL\n  endpoints: [ {{ address: \"{bench.address('hbone')}\" }} ]\n  ports:\n{rows}---\n")


class WeftHttp(Weft):
    name = "weft"

    def __init__(self, bench, directory, text, threads):
        Candidate.__init__(self, bench)
        if not binaries_exist():
            raise Missing("Weft: no weftd and weft-helper in the build (run make)")
        self.running = False
        self.mesh = NamedMesh(bench.net, directory)
        self.mesh.write("mesh.yaml", (
            f"trustDomain: cluster.local\nweft: {{ helper: {{ threads: {threads} }} }}\nextensionProviders:\n"
            f"- {{ name: file, envoyFileAccessLog: {{ path: {bench.path('access.log')} }} }}\n"
            f"- {{ name: zip, zipkin: {{ service: {bench.net.nodes['node-a'].ip4}, port: 9411 }} }}\n"))
        self.mesh.write("bench.yaml", text)
        for node in bench.net.nodes.values():
            self.mesh.agent(node)

    def target(self, server, port):
        return VIPS[0 if self.bench.family == 4 else 1], port

    def pids(self):
        return list(self.helpers().values())

    def verify(self, server):
        pass


class WeftHop(WeftHttp):
    def __init__(self, bench):
        super().__init__(bench, "weft-hop", namespace("bench") + workload(bench.client, "bench", "client") + outside(bench), 1)

    def pids(self):
        return [self.helpers()["node-a"]]


class WeftNodes(WeftHttp):
    directory, rules = "weft-nodes", ALLOW

    def __init__(self, bench):
        text = (namespace("bench") + STRICT + self.rules + workload(bench.client, "bench", "client") +
                workload(bench.server("hbone"), "bench", "app", account="server") + service("app", "bench", PORTS, VIPS))
        super().__init__(bench, self.directory, text, 2)


class WeftRules(WeftNodes):
    """Rules on requests: the helper of the server's node speaks HTTP, too, and judges each request."""
    directory, rules = "weft-rules", RULES


def virtual_services(count, routes):
    """Of other hosts, each with its routes by path and header."""
    out = []
    for i in range(count):
        rules = "".join(
            f"  - {{ match: [ {{ uri: {{ prefix: /p{j}/ }}, headers: {{ x-n: {{ exact: '{j}' }} }} }} ], "
            f"route: [ {{ destination: {{ host: app.bench.example }} }} ] }}\n" for j in range(routes))
        out.append(f"apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                   f"metadata: {{ name: other-{i}, namespace: bench }}\nspec:\n  hosts: [ other-{i}.bench.example ]\n"
                   f"  http:\n{rules}---\n")
    return "".join(out)


# Access logs to a file and every request traced; the collector is away, as it would cost the machine.
TELEMETRY = {"telemetry.yaml": ("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"
                                "metadata: { name: all, namespace: bench }\nspec:\n"
                                "  accessLogging: [ { providers: [ { name: file } ] } ]\n"
                                "  tracing: [ { providers: [ { name: zip } ], randomSamplingPercentage: 100 } ]\n")}
