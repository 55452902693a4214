# SPDX-License-Identifier: Apache-2.0
"""The town of the Gateway API's conformance cases, and words to write routes with:

    node-a: echo-v1, consumer     node-b: echo-v2

Services in namespace shop: echo (both), echo-v1 and echo-v2 (one each), with HTTP on 80 and 8080, gRPC on 7070 and TCP on
9090. The pod called consumer is in namespace consumer."""
from . import rpc, traffic, web
from .mesh import namespace, service, workload
from .town import Town
from .web import get

VIPS = {"echo": 1, "echo-v1": 2, "echo-v2": 3}
PORTS = [("http", 80, 80, "TCP, appProtocol: http"), ("http-alt", 8080, 8080, "TCP, appProtocol: http"),
         ("grpc", 7070, 7070, "TCP, appProtocol: grpc"), ("tcp", 9090, 9090, "TCP")]
ROUTES = "21-routes.yaml"


def vips(name):
    return [f"10.60.1.{VIPS[name]}", f"fd60::1:{VIPS[name]}"]


def build(net):
    net.node("node-a")
    net.node("node-b")
    for name, node, host in (("echo-v1", "node-a", 11), ("consumer", "node-a", 12), ("echo-v2", "node-b", 11)):
        net.pod(name, node, host)
    for name in ("echo-v1", "echo-v2"):
        pod = net.pods[name]
        web.serve(pod, 80)
        web.serve(pod, 8080)
        rpc.serve(pod, 7070)
        traffic.serve(pod, 9090)
    town = Town(net)
    text = namespace("shop") + namespace("consumer")
    text += workload(net.pods["echo-v1"], "shop", "echo") + workload(net.pods["echo-v2"], "shop", "echo", version="v2")
    text += workload(net.pods["consumer"], "consumer", "consumer")
    for name, app in (("echo", "echo"), ("echo-v1", "echo, version: v1"), ("echo-v2", "echo, version: v2")):
        text += service(name, "shop", PORTS, vips(name), app=app)
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
    town.mesh.write("00-workloads.yaml", text)
    town.mesh.start()
    return town


def route(rules, parent="name: echo", name="route", kind="HTTPRoute", ns="shop"):
    parents = ", ".join(f"{{ group: '', kind: Service, {one} }}" for one in ([parent] if isinstance(parent, str) else parent))
    return (f"apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{ name: {name}, namespace: {ns} }}\n"
            f"spec: {{ parentRefs: [ {parents} ], rules: [ {', '.join([rules] if isinstance(rules, str) else rules)} ] }}\n---\n")


def write(town, *documents):
    town.apply(ROUTES, *documents)


def to(name, port=80, more=""):
    return f"backendRefs: [ {{ name: {name}, port: {port}{more} }} ]"


def path(value, kind="PathPrefix"):
    return f"path: {{ type: {kind}, value: {value} }}"


def filters(*listed):
    return "filters: [ " + ", ".join(listed) + " ]"


def headers(side, words):
    name = side[0].lower() + side[1:] + "HeaderModifier"
    return f"{{ type: {side}HeaderModifier, {name}: {{ {words} }} }}"


MARK = filters(headers("Response", "set: [ { name: X-Header-Set, value: %s } ]"))


def ask(place, host, target="/", port=80, family=0, at=None, **options):
    """As a client does that has resolved `at` (the host's own name, if it is not said)."""
    address = vips((at or host).partition(".")[0])[family]
    address = f"[{address}]" if family else address
    return get(place, f"http://{address}:{port}{target}", host=host if port == 80 else f"{host}:{port}", **options)


def took(town, target, **options):
    answer = ask(town.echo_v1, "echo", target, **options)
    return answer.name if answer.status == 200 else answer.status
