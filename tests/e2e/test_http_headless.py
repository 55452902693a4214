# SPDX-License-Identifier: Apache-2.0
"""HTTP to headless services: callers choose the pod, the mesh does all else that it does for a service with an address.

    ring      headless, HTTP on port 8080: catalog-1 (the caller's node) and catalog-2
    rings     the same for gRPC on port 5051
    payments  has an address: its pods' own addresses are called at L4, as ever"""
import json

import pytest

from lib import rpc, web
from lib.net import Net
from lib.shell import until_seen, wait_for
from lib.web import get

RING = "ring.shop.svc.cluster.local"
RINGS = "rings.shop.svc.cluster.local"
HEADLESS = """apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: shop }}
spec: {{ clusterIP: None, selector: {{ app: {app} }}, ports: [ {{ name: {port}, port: {number} }} ] }}
---
"""


def headless(name, port, number, app="catalog"):
    return HEADLESS.format(name=name, port=port, number=number, app=app)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("headless")) as net:
        made = web.build(net, more=headless("ring", "http", 8080) + headless("rings", "grpc", rpc.PORT))
        for pod in (made.catalog_1, made.catalog_2):
            rpc.serve(pod)
        made.mesh.settle()
        yield made


@pytest.fixture(autouse=True)
def no_rules(town):
    yield
    for name in ("20-routes.yaml", "30-policy.yaml"):
        try:
            town.mesh.remove(name)
        except FileNotFoundError:
            pass
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
    town.mesh.settle()


def routes(town, *rules, host="ring"):
    text = (f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {host}, namespace: shop }}\n"
            f"spec:\n  hosts: [ {host} ]\n  http:\n" + "".join(f"  - {rule}\n" for rule in rules))
    town.mesh.write("20-routes.yaml", text)
    town.mesh.settle()
    for agent in town.mesh.agents.values():
        assert agent.api("/v1/status")["config"]["problems"] == []


MARKED = "{ headers: { request: { set: { x-routed: ring } } }, route: [ { destination: { host: ring } } ] }"


def pod_urls(pod, port=8080):
    return f"http://{pod.ip4}:{port}", f"http://[{pod.ip6}]:{port}"


def flows(town, pod, path):
    return town.agent("node-a").flows(path=path, original=f"{pod.ip4}:8080", side="source")


# --- where a request goes ---

@pytest.mark.parametrize("pod", ["catalog-1", "catalog-2"])
def test_the_pod_that_was_called_answers(town, pod):
    pod = town.net.pods[pod]
    routes(town, MARKED)
    for url in pod_urls(pod):
        for _ in range(3):
            answer = get(town.frontend, url + "/", host=RING)
            assert answer.status == 200 and answer.name == pod.name, answer
            assert answer.seen("x-routed") == "ring" and answer.seen("host") == RING
            assert answer.json["peer"].rpartition(":")[0].strip("[]") in (town.frontend.ip4, town.frontend.ip6)


def test_by_name_and_by_the_names_that_callers_write(town):
    routes(town, MARKED)
    seen = {get(town.frontend, f"http://{RING}:8080/").name for _ in range(20)}
    assert seen <= {"catalog-1", "catalog-2"} and seen
    for host in ("ring", "ring.shop", "ring.shop.svc:8080", f"catalog-1.{RING}", "catalog-1.ring"):
        answer = get(town.frontend, pod_urls(town.catalog_2)[0] + "/", host=host)
        assert answer.name == "catalog-2" and answer.seen("x-routed") == "ring", host


def test_each_pod_has_a_name(town):
    routes(town, MARKED)
    for pod in (town.catalog_1, town.catalog_2):
        for name in (f"{pod.name}.{RING}", f"{pod.name}.ring.shop"):
            for family in ("-4", "-6"):
                answer = get(town.frontend, f"http://{name}:8080/", family)
                assert answer.name == pod.name and answer.seen("x-routed") == "ring", (name, family)
    x = json.loads(town.agent("node-a").meshctl("explain", "frontend", f"http://catalog-2.{RING}:8080/", "-o", "json").stdout)
    assert x["verdict"] == "allowed" and x["inbound"][0]["workload"] == "shop/catalog-2", x


def test_a_pod_calls_itself_and_others(town):
    routes(town, MARKED)
    for pod in (town.catalog_1, town.catalog_2):
        for url in pod_urls(pod):
            answer = get(town.catalog_1, url + "/", host=RING)
            assert answer.name == pod.name and answer.seen("x-routed") == "ring", url


def test_routes_lead_elsewhere_by_header(town):
    routes(town, "{ match: [ { headers: { x-to: { exact: payments } } } ], "
                 "route: [ { destination: { host: payments, port: { number: 80 } } } ] }", MARKED)
    url = pod_urls(town.catalog_1)[0] + "/"
    assert get(town.frontend, url, host="ring", headers={"X-To": "payments"}).name == "payments"
    assert get(town.frontend, url, host="ring").name == "catalog-1"


def test_subsets_keep_the_address_if_they_have_it(town):
    routes(town, "{ match: [ { headers: { x-version: { exact: v2 } } } ], route: [ { destination: { host: ring, subset: v2 } } ] }",
           MARKED)
    town.mesh.write("30-policy.yaml", "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                    "metadata: { name: ring, namespace: shop }\nspec: { host: ring, subsets: [ { name: v2, labels: "
                    "{ version: v2 } } ] }\n")
    town.mesh.settle()
    for pod in (town.catalog_1, town.catalog_2):
        for url in pod_urls(pod):
            assert get(town.frontend, url + "/", host="ring", headers={"X-Version": "v2"}).name == "catalog-2"
            assert get(town.frontend, url + "/", host="ring").name == pod.name


def test_a_route_from_a_service_with_an_address(town):
    routes(town, "{ route: [ { destination: { host: ring } } ] }", host="payments")
    for address in ("10.60.0.30", "[fd60::30]"):
        until_seen(lambda a=address: get(town.frontend, f"http://{a}/").name, {"catalog-1", "catalog-2"})


def test_another_host_goes_to_the_address_without_routes(town):
    routes(town, MARKED)
    for pod in (town.catalog_1, town.catalog_2):
        for url in pod_urls(pod):
            for host in (None, "elsewhere.example"):
                answer = get(town.frontend, url + "/", host=host)
                assert answer.name == pod.name and answer.seen("x-routed") is None, (url, host)


def test_pods_of_other_services_are_called_at_l4(town):
    for pod, path in ((town.payments, "hbone"), (town.catalog_2, "http")):
        assert get(town.frontend, pod_urls(pod)[0] + "/").name == pod.name
        wait_for("the connection to be told", lambda p=pod, how=path: flows(town, p, how))
    assert not flows(town, town.payments, "http")


# --- what is done for it ---

@pytest.mark.parametrize("pod", ["catalog-1", "catalog-2"])
def test_retries_go_to_the_same_pod(town, pod):
    pod = town.net.pods[pod]
    routes(town, "{ retries: { attempts: 3, retryOn: 5xx }, route: [ { destination: { host: ring } } ] }")
    answer = get(town.frontend, f"{pod_urls(pod)[0]}/?fail=2&key=retry-{pod.name}", host=RING)
    assert answer.status == 200 and answer.name == pod.name, answer
    assert answer.seen("x-envoy-attempt-count") == "3"


@pytest.mark.parametrize("pod", ["catalog-1", "catalog-2"])
def test_requests_are_counted_for_the_service_and_the_pod(town, pod):
    pod, agent = town.net.pods[pod], town.agent("node-a")
    labels = {"reporter": "source", "source_workload": "frontend", "destination_service": RING, "response_code": "418",
              "destination_version": "v1" if pod is town.catalog_1 else "v2", "response_flags": "-"}
    before = agent.metric("istio_requests_total", **labels)
    for url in pod_urls(pod):
        assert get(town.frontend, url + "/?status=418", host=RING).status == 418
    wait_for("the requests to be counted", lambda: agent.metric("istio_requests_total", **labels) == before + 2)


def test_a_grpc_client_that_balances_by_itself(town):
    routes(town, "{ match: [ { headers: { x-fail: { exact: \"yes\" } } } ], fault: { abort: { grpcStatus: PERMISSION_DENIED, "
                 "percentage: { value: 100 } } }, route: [ { destination: { host: rings } } ] }",
           "{ headers: { request: { set: { x-routed: rings } } }, route: [ { destination: { host: rings } } ] }",
           host="rings")
    for pod in (town.catalog_1, town.catalog_2):
        for target in (f"ipv4:{pod.ip4}:{rpc.PORT}", f"ipv6:[{pod.ip6}]:{rpc.PORT}"):
            seen = rpc.call(town.frontend, target, "Unary", authority=RINGS)
            assert seen["status"] == "OK", seen
            said = seen["messages"][0]
            assert said["name"] == pod.name and rpc.fields(said["metadata"], "x-routed") == ["rings"]
            seen = rpc.call(town.frontend, target, "Unary", authority="rings", metadata="x-fail:yes")
            assert seen["status"] == "PERMISSION_DENIED", seen


def test_the_servers_rules_know_the_caller(town):
    town.mesh.write("30-policy.yaml", """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: rules, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  rules:
  - from: [ { source: { principals: [ cluster.local/ns/shop/sa/frontend ] } } ]
    to: [ { operation: { paths: [ /public* ] } } ]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: shop }
spec: { mtls: { mode: STRICT } }
""")
    town.mesh.settle()
    for pod in (town.catalog_1, town.catalog_2):
        for url in pod_urls(pod):
            assert get(town.frontend, url + "/public", host=RING).status == 200, url
            assert get(town.frontend, url + "/private", host=RING).status == 403, url


# --- who may ---

def test_registry_only(town):
    routes(town, MARKED)
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\noutboundTrafficPolicy: { mode: REGISTRY_ONLY }\n")
    town.mesh.settle()
    for pod in (town.catalog_1, town.catalog_2):
        url = pod_urls(pod)[0] + "/"
        assert get(town.frontend, url, host=RING).seen("x-routed") == "ring"
        assert get(town.frontend, url).name == pod.name  # a pod of the registry, as at L4


def test_a_sidecar_that_does_not_see_it(town):
    routes(town, MARKED)
    sidecar = """---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: narrow, namespace: shop }
spec:
  egress: [ { hosts: [ shop/payments.shop.svc.cluster.local ] } ]
  outboundTrafficPolicy: { mode: %s }
"""
    url = pod_urls(town.catalog_2)[0] + "/"
    town.mesh.write("30-policy.yaml", sidecar % "ALLOW_ANY")
    town.mesh.settle()
    wait_for("the Sidecar", lambda: get(town.frontend, url, host=RING).seen("x-routed") is None)
    assert get(town.frontend, url, host=RING).name == "catalog-2"
    town.mesh.write("30-policy.yaml", sidecar % "REGISTRY_ONLY")
    town.mesh.settle()
    wait_for("the refusal", lambda: get(town.frontend, url, host=RING).status == 502)


# --- what an operator sees ---

@pytest.mark.parametrize("host", [RING, "ring", None])
def test_explain(town, host):
    routes(town, MARKED)
    agent = town.agent("node-a")
    pod = town.catalog_2
    words = ["-H", f"Host: {host}"] if host else []
    x = json.loads(agent.meshctl("explain", "frontend", pod_urls(pod)[0] + "/x", *words, "-o", "json").stdout)
    assert x["verdict"] == "allowed" and x["outbound"]["to_helper"] is True
    assert x["target"]["service"] == f"shop/{RING}"
    assert ("VirtualService" in (x["route"]["owner"] or "")) == bool(host), x["route"]
    assert x["inbound"][0]["workload"] == "shop/catalog-2", x["inbound"]


def test_explain_by_name_and_of_a_connection(town):
    agent = town.agent("node-a")
    x = json.loads(agent.meshctl("explain", "frontend", "http://ring:8080/", "-o", "json").stdout)
    assert x["verdict"] == "allowed" and x["outbound"]["to_helper"] is True
    x = json.loads(agent.meshctl("explain", "frontend", f"{town.catalog_2.ip4}:8080", "-o", "json").stdout)
    assert x["path"] == "http" and x["destination"]["chosen"] == f"{town.catalog_2.ip4}:8080", x


def test_endpoints_come_and_go(town):
    """A connection to what is no endpoint any more is as any other to a pod."""
    agent = town.agent("node-a")
    url = pod_urls(town.catalog_2)[0] + "/"
    routes(town, MARKED)
    assert get(town.frontend, url, host=RING).seen("x-routed") == "ring"
    text = web.base_config(town.net)
    town.mesh.write("00-workloads.yaml", text + headless("ring", "http", 8080, "catalog, version: v1"))
    town.mesh.settle()
    wait_for("the pod to leave the service", lambda: get(town.frontend, url, host=RING).seen("x-routed") is None)
    assert get(town.frontend, url, host=RING).name == "catalog-2"
    x = json.loads(agent.meshctl("explain", "frontend", f"{town.catalog_2.ip4}:8080", "-o", "json").stdout)
    assert x["path"] == "hbone", x
    town.mesh.write("00-workloads.yaml", text + headless("ring", "http", 8080) + headless("rings", "grpc", rpc.PORT))
    town.mesh.settle()
    wait_for("the pod to be back", lambda: get(town.frontend, url, host=RING).seen("x-routed") == "ring")
