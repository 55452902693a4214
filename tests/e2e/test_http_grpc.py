# SPDX-License-Identifier: Apache-2.0
"""gRPC through the mesh, by a real client and real servers: every kind of call, statuses, deadlines, routes, retries,
balancing of one connection's calls, rules, metrics, and traces that are exported over gRPC."""
import os

import pytest

from lib import rpc, web
from lib.mesh import service
from lib.net import Net
from lib.rpc import call, fields
from lib.shell import wait_for

PORT = rpc.PORT
# rpc: both servers; near: the caller's node; far: the other node, and a Service that says h2c and nothing in its name
SERVICES = (service("rpc", "shop", [("grpc", 80, PORT, "TCP")], ["10.60.0.70", "fd60::70"], app="catalog")
            + service("near", "shop", [("grpc-near", 80, PORT, "TCP")], ["10.60.0.71", "fd60::71"],
                      app="catalog, version: v1")
            + service("far", "shop", [("web", 80, PORT, "TCP, appProtocol: kubernetes.io/h2c")],
                      ["10.60.0.72", "fd60::72"], app="payments"))
RPC, NEAR, FAR = "10.60.0.70:80", "10.60.0.71:80", "10.60.0.72:80"
PLACES = [NEAR, FAR, "[fd60::71]:80", "[fd60::72]:80"]
SUBSETS = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: rpc, namespace: shop }
spec:
  host: rpc
  subsets:
  - { name: v1, labels: { version: v1 } }
  - { name: v2, labels: { version: v2 } }
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("grpc")) as net:
        made = web.build(net, more=SERVICES)
        made.spans = os.path.join(net.directory, "spans")
        os.makedirs(made.spans)
        for name in ("catalog-1", "catalog-2", "payments"):
            rpc.serve(net.pods[name])
        rpc.serve(net.nodes["node-a"], 4317, spans=made.spans)
        made.mesh.write("20-subsets.yaml", SUBSETS)
        made.mesh.settle()
        yield made


def routes(*rules, host="rpc"):
    return (f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {host}, namespace: shop }}\n"
            f"spec:\n  hosts: [ {host} ]\n  http:\n" + "".join(f"  - {rule}\n" for rule in rules))


def to(subset, host="rpc"):
    return f"{{ destination: {{ host: {host}, subset: {subset} }} }}"


def server(seen):
    return fields(seen["metadata"], "x-server")[0]


# --- calls of every kind, on the same node and to another one, over both families ---

@pytest.mark.parametrize("target", PLACES)
def test_unary_with_metadata_and_trailers(town, target):
    seen = call(town.frontend, target, "Unary", {"a": 1}, metadata=["x-one:1", "x-one:2"])
    assert seen["status"] == "OK", seen
    message = seen["messages"][0]
    assert message["name"] == ("catalog-1" if "71" in target else "payments")
    assert ", ".join(fields(message["metadata"], "x-one")).replace(",", ", ").replace("  ", " ") == "1, 2"
    assert fields(seen["metadata"], "x-first") == ["one"] and fields(seen["metadata"], "x-blob-bin") == [[0, 1, 255]]
    assert fields(seen["trailers"], "x-last") == ["two", "three"] and fields(seen["trailers"], "x-tail-bin") == [[254, 0]]


@pytest.mark.parametrize("target", PLACES)
def test_messages_of_a_stream_arrive_one_by_one(town, target):
    down = call(town.frontend, target, "Download", {"count": 4, "interval": 0.6})
    assert down["status"] == "OK" and [message["i"] for message in down["messages"]] == [0, 1, 2, 3], down
    assert down["when"][3] - down["when"][0] >= 0.3  # they were sent in 1.8 s; held back, they would come at once
    up = call(town.frontend, target, "Upload", stream=4, interval=0.6)
    assert up["status"] == "OK", up
    arrived = up["messages"][0]["arrived"]
    assert len(arrived) == 4 and arrived[3] - arrived[0] >= 0.3
    both = call(town.frontend, target, "Chat", stream=4, turns="yes")  # each is sent when the one before is back
    assert both["status"] == "OK" and [message["i"] for message in both["messages"]] == [0, 1, 2, 3], both


@pytest.mark.parametrize("target", [NEAR, FAR])
@pytest.mark.parametrize("status,name", [(1, "CANCELLED"), (3, "INVALID_ARGUMENT"), (5, "NOT_FOUND"), (8, "RESOURCE_EXHAUSTED"),
                                         (13, "INTERNAL"), (16, "UNAUTHENTICATED")])
def test_status_and_details_of_the_server(town, target, status, name):
    seen = call(town.frontend, target, "Unary", {"status": status, "details": "why: 100% \u00e4"})
    assert seen["status"] == name and seen["details"] == "why: 100% \u00e4", seen
    assert fields(seen["trailers"], "x-last") == ["two"]


def test_a_status_behind_messages(town):
    seen = call(town.frontend, FAR, "Download", {"count": 2, "status": 8})
    assert seen["status"] == "RESOURCE_EXHAUSTED" and seen["details"] == "in the end" and len(seen["messages"]) == 2, seen


@pytest.mark.parametrize("target", [NEAR, FAR])
def test_large_messages_both_ways(town, target):
    assert call(town.frontend, target, "Unary", {"size": 4 << 20})["messages"] == [{"length": 4 << 20}]
    assert call(town.frontend, target, "Unary", size=4 << 20)["messages"][0]["length"] == 4 << 20
    both = call(town.frontend, target, "Chat", stream=3, size=4 << 20)
    assert both["messages"] == [{"length": 4 << 20}] * 3, both["status"]


# --- deadlines ---

@pytest.mark.parametrize("target", [NEAR, FAR])
def test_the_callers_deadline_ends_the_call_on_both_sides(town, target):
    key = f"deadline-{target}"
    seen = call(town.frontend, target, "Wait", {"key": key}, timeout=1)
    assert seen["status"] == "DEADLINE_EXCEEDED" and seen["seconds"] < 30, seen
    known = wait_for("the server to see the end", lambda: [
        row for row in call(town.frontend, target, "Ended", {"key": key})["messages"] if row and row["ended"] is not None])[0]
    assert known["remaining"] <= 1.0 and known["ended"] < 30  # it would wait for 60


def test_the_deadline_is_kept_by_the_mesh(town, documents):
    """The route's timeout is shorter than what the caller asks."""
    documents(routes("{ timeout: 500ms, retries: { attempts: 0 }, route: [ { destination: { host: far } } ] }", host="far"))
    seen = call(town.frontend, FAR, "Wait", {"key": "kept"}, timeout=60)
    assert seen["status"] in ("DEADLINE_EXCEEDED", "UNAVAILABLE") and seen["seconds"] < 30, seen
    assert "upstream request timeout" in seen["details"], seen
    wait_for("the server to see the end", lambda: [
        row for row in call(town.frontend, FAR, "Ended", {"key": "kept"})["messages"] if row["ended"] is not None])


# --- routes ---

def test_routes_by_header_and_method(town, documents):
    documents(routes(f"{{ match: [ {{ headers: {{ x-canary: {{ exact: 'yes' }} }} }} ], route: [ {to('v2')} ] }}",
                     f"{{ match: [ {{ uri: {{ prefix: /weft.test.Other/ }} }} ], route: [ {to('v2')} ] }}",
                     f"{{ route: [ {to('v1')} ] }}"))
    assert server(call(town.frontend, RPC, "Unary", metadata="x-canary:yes")) == "catalog-2"
    assert server(call(town.frontend, RPC, "weft.test.Other/Unary")) == "catalog-2"
    assert server(call(town.frontend, RPC, "Unary", metadata="x-canary:no")) == "catalog-1"


def test_grpc_route_by_method(town, documents):
    documents("""apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: rpc, namespace: shop }
spec:
  parentRefs: [ { group: "", kind: Service, name: rpc } ]
  rules:
  - matches: [ { method: { service: weft.test.Other, method: Unary } } ]
    backendRefs: [ { name: far, port: 80 } ]
  - matches: [ { method: { service: weft.test.Echo } } ]
    filters: [ { type: RequestHeaderModifier, requestHeaderModifier: { set: [ { name: x-set, value: mesh } ] } } ]
    backendRefs: [ { name: near, port: 80 } ]
""")
    assert server(call(town.frontend, RPC, "weft.test.Other/Unary")) == "payments"
    seen = call(town.frontend, RPC, "Unary")
    assert server(seen) == "catalog-1" and fields(seen["messages"][0]["metadata"], "x-set") == ["mesh"]
    assert call(town.frontend, RPC, "weft.test.None/Unary")["status"] == "UNIMPLEMENTED"


def test_retries_on_unavailable(town, documents):
    documents(routes("{ retries: { attempts: 3, retryOn: unavailable }, route: [ { destination: { host: far } } ] }",
                     host="far"))
    seen = call(town.frontend, FAR, "Unary", {"fail": 2, "key": "retry"})
    assert seen["status"] == "OK", seen
    assert fields(seen["messages"][0]["metadata"], "x-envoy-attempt-count") == ["3"]
    seen = call(town.frontend, FAR, "Unary", {"fail": 9, "key": "retry-more"})
    assert seen["status"] == "UNAVAILABLE" and seen["details"] == "as asked", seen
    # what was not named is not retried
    assert call(town.frontend, FAR, "Unary", {"status": 13})["status"] == "INTERNAL"


def test_fault_abort_with_a_grpc_status(town, documents):
    documents(routes("{ fault: { abort: { percentage: { value: 100 }, grpcStatus: RESOURCE_EXHAUSTED } }, "
                     "route: [ { destination: { host: far } } ] }", host="far"))
    assert call(town.frontend, FAR, "Unary")["status"] == "RESOURCE_EXHAUSTED"
    assert call(town.frontend, FAR, "Chat", stream=3)["status"] == "RESOURCE_EXHAUSTED"


def test_calls_of_one_connection_are_balanced(town):
    seen = rpc.call(town.frontend, RPC, "Unary", repeat=400)
    assert seen["status"] == {"OK": 400}, seen
    assert all(seen["server"].get(name, 0) >= 100 for name in ("catalog-1", "catalog-2")), seen


def test_no_endpoint_is_unavailable(town, documents):
    documents(routes("{ retries: { attempts: 0 }, route: [ { destination: { host: far, subset: none } } ] }", host="far"))
    seen = call(town.frontend, FAR, "Unary")
    assert seen["status"] == "UNAVAILABLE", seen


# --- rules of the servers ---

@pytest.mark.parametrize("family", [4, 6])
def test_a_denial_is_permission_denied(town, documents, family):
    documents("".join(f"""apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: deny-{app}, namespace: shop }}
spec:
  selector: {{ matchLabels: {{ app: {app} }} }}
  action: DENY
  rules: [ {{ from: [ {{ source: {{ principals: [ cluster.local/ns/shop/sa/frontend ] }} }} ],
             to: [ {{ operation: {{ paths: [ /weft.test.Echo/Denied ] }} }} ] }} ]
---
""" for app in ("catalog", "payments")))
    for target in ((NEAR, FAR) if family == 4 else PLACES[2:]):
        seen = call(town.frontend, target, "Denied")
        assert seen["status"] == "PERMISSION_DENIED" and seen["details"] == "RBAC: access denied", seen
        assert call(town.frontend, target, "Unary")["status"] == "OK"
        assert call(town.frontend, target, "Chat", stream=3)["status"] == "OK"


# --- what is told of calls ---

def test_calls_and_messages_are_counted(town):
    agent = town.agent("node-a")
    labels = {"request_protocol": "grpc", "destination_service": "far.shop.svc.cluster.local", "reporter": "source"}

    def count(name, **more):
        return agent.metric(name, **labels, **more)
    names = [("istio_requests_total", {"grpc_response_status": "0"}), ("istio_requests_total", {"grpc_response_status": "5"}),
             ("istio_request_messages_total", {}), ("istio_response_messages_total", {})]
    before = [count(name, **more) for name, more in names]
    assert call(town.frontend, FAR, "Chat", stream=7)["status"] == "OK"
    assert call(town.frontend, FAR, "Unary", {"status": 5})["status"] == "NOT_FOUND"
    wanted = [1, 1, 8, 7]
    wait_for("the calls to be counted", lambda: [
        count(name, **more) - was for (name, more), was in zip(names, before)] == wanted)


def test_messages_are_counted_by_the_servers_side_too(town, documents):
    """Of a call that streams both ways and ends with a status of its own."""
    documents("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: some, namespace: shop }\n"
              "spec: { selector: { matchLabels: { app: payments } }, action: DENY, "
              "rules: [ { to: [ { operation: { paths: [ /nothing ] } } ] } ] }\n")
    agent = town.agent("node-b")
    labels = {"request_protocol": "grpc", "reporter": "destination", "destination_workload": "payments",
              "source_principal": "spiffe://cluster.local/ns/shop/sa/frontend"}

    def counts():
        return [agent.metric(name, grpc_response_status=status, **labels) for name, status in (
            ("istio_requests_total", "0"), ("istio_request_messages_total", "0"), ("istio_response_messages_total", "0"),
            ("istio_requests_total", "5"))]
    before = counts()
    assert call(town.frontend, FAR, "Chat", stream=6)["status"] == "OK"
    assert call(town.frontend, FAR, "Unary", {"status": 5})["status"] == "NOT_FOUND"
    wait_for("the calls to be counted", lambda: [a - b for a, b in zip(counts(), before)] == [1, 6, 6, 1])


def test_traces_are_exported_over_grpc(town):
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\nextensionProviders:\n"
                    f"- {{ name: otlp, opentelemetry: {{ service: {town.node_a.ip4}, port: 4317 }} }}\n")
    town.mesh.write("41-tracing.yaml", (
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: tracing, namespace: istio-system }\n"
        "spec: { tracing: [ { providers: [ { name: otlp } ], randomSamplingPercentage: 100 } ] }\n"))
    town.mesh.settle()
    agent = town.agent("node-a")
    traces = []
    for _ in range(20):
        seen = call(town.frontend, FAR, "Unary")["messages"][0]["metadata"]
        traces.append(bytes.fromhex(fields(seen, "traceparent")[0].split("-")[1]))

    def received():
        files = [entry for entry in os.listdir(town.spans) if not entry.endswith(".part")]
        return b"".join(open(os.path.join(town.spans, entry), "rb").read() for entry in files)
    wait_for("the spans", lambda: all(received().count(trace) >= 1 for trace in traces))
    assert b"frontend.shop" in received()
    # the collector has a batch before its answer is back and counted
    wait_for("the spans to be counted", lambda: agent.metric("weft_spans_exported_total") >= 20)
    assert agent.metric("weft_spans_dropped_total") == 0
