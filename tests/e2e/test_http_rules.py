# SPDX-License-Identifier: Apache-2.0
"""Whose rules are in force: DestinationRules of callers, by namespace, exportTo and workloadSelector; and Sidecars.

    frontend and payments call from namespace shop, where catalog is; stranger, from namespace team."""
import time

import pytest

from lib import web
from lib.mesh import namespace, workload
from lib.net import Net
from lib.shell import wait_for
from lib.web import get, load

CATALOG = "http://10.60.0.20"
FQDN = "catalog.shop.svc.cluster.local"
RULES = "30-rules.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("rules")) as net:
        town = web.build(net)
        web.serve(net.pod("outsider", "node-b", 95))  # an address that the mesh does not know
        town.mesh.write("01-team.yaml", namespace("team") + workload(net.pods["stranger"], "team", "stranger"))
        town.mesh.settle()
        yield town


@pytest.fixture
def town(made):
    yield made
    made.mesh.write(RULES, "")
    made.mesh.settle()


def rule(name, ns, host, spec):
    return ("apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
            f"metadata: {{ name: {name}, namespace: {ns} }}\nspec: {{ host: {host}, {spec} }}\n---\n")


def cookie(name):
    """A policy that its callers can see: responses have a Set-Cookie of this name."""
    return ("trafficPolicy: { loadBalancer: { consistentHash: { httpCookie: "
            f"{{ name: {name}, ttl: 60s, path: / }} }} }} }}")


def write(town, *documents):
    town.mesh.write(RULES, "".join(documents))
    town.mesh.settle()
    for agent in town.mesh.agents.values():
        assert agent.api("/v1/status")["config"]["problems"] == []


def seen_by(place):
    answer = get(place, CATALOG + "/")
    assert answer.status == 200, answer
    return (answer.header("set-cookie") or "").partition("=")[0]


def seen(town):
    return [seen_by(place) for place in (town.frontend, town.payments, town.stranger)]


def test_a_rule_of_the_callers_namespace_is_for_its_callers(town):
    write(town, rule("own", "shop", "catalog", cookie("service")))
    assert seen(town) == ["service", "service", "service"]
    write(town, rule("own", "shop", "catalog", cookie("service")), rule("mine", "team", FQDN, cookie("team")))
    assert seen(town) == ["service", "service", "team"]
    # What it says is changed while connections are open, then the rule goes, and what was in force is again.
    write(town, rule("own", "shop", "catalog", cookie("service")), rule("mine", "team", FQDN, cookie("other")))
    assert seen(town) == ["service", "service", "other"]
    write(town, rule("own", "shop", "catalog", cookie("service")))
    assert seen(town) == ["service", "service", "service"]
    write(town)
    assert seen(town) == ["", "", ""]


def test_export_to_keeps_a_rule_at_home(town):
    write(town, rule("own", "shop", "catalog", cookie("service") + ", exportTo: [ \".\" ]"),
          rule("all", "istio-system", "\"*.local\"", cookie("mesh")))
    assert seen(town) == ["service", "service", "mesh"]
    write(town, rule("own", "shop", "catalog", cookie("service") + ", exportTo: [ team ]"),
          rule("all", "istio-system", "\"*.local\"", cookie("mesh")))
    assert seen(town) == ["mesh", "mesh", "service"]


def test_a_workload_selector_chooses_among_callers(town):
    selector = ", workloadSelector: { matchLabels: { app: payments } }"
    write(town, rule("own", "shop", "catalog", cookie("service")),
          rule("ledger", "shop", "catalog", cookie("ledger") + selector))
    assert seen(town) == ["service", "ledger", "service"]


def test_subsets_are_those_of_the_callers_rules(town):
    route = ("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: catalog, namespace: shop }\n"
             "spec: { hosts: [ catalog ], http: [ { route: [ { destination: { host: catalog, subset: mine } } ] } ] }"
             "\n---\n")
    write(town, route, rule("own", "shop", "catalog", "subsets: [ { name: mine, labels: { version: v1 } } ]"),
          rule("mine", "team", FQDN, "subsets: [ { name: mine, labels: { version: v2 } } ]"))
    for place, want in ((town.frontend, "catalog-1"), (town.stranger, "catalog-2")):
        assert {get(place, CATALOG + "/").name for _ in range(6)} == {want}
    explained = town.agent("node-b").meshctl("explain", "team/stranger", CATALOG + "/").stdout
    assert f"outbound|80|mine@team/mine|{FQDN}" in explained, explained


def test_retries_go_to_other_localities_when_asked_to(town):
    """catalog-1 is the first in line, and nothing listens there any more."""
    near = rule("near", "shop", "catalog",
                "trafficPolicy: { outlierDetection: { consecutive5xxErrors: 1000 }, loadBalancer: { localityLbSetting: "
                "{ failoverPriority: [ version=v1 ] } } }")
    route = ("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: catalog, namespace: shop }\n"
             "spec: { hosts: [ catalog ], http: [ { route: [ { destination: { host: catalog } } ], retries: "
             "{ attempts: 3, retryOn: connect-failure, backoff: 1ms, retryRemoteLocalities: %s } } ] }\n---\n")
    place = town.net.pods["catalog-1"]
    write(town, near, route % "false")
    assert {get(town.frontend, CATALOG + "/").name for _ in range(6)} == {"catalog-1"}
    place.run("sh", "-c", "kill -9 $(ss -ltnpH 'sport = :8080' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u)")
    try:
        assert {get(town.frontend, CATALOG + "/").status for _ in range(4)} == {503}
        write(town, near, route % "true")
        answers = [get(town.frontend, CATALOG + "/") for _ in range(6)]
        assert {(answer.status, answer.name) for answer in answers} == {(200, "catalog-2")}
        # Two tries of the first priority, then one of the other.
        assert {answer.seen("x-envoy-attempt-count") for answer in answers} <= {None, "3"}
    finally:
        web.serve(place)
    wait_for("catalog-1 to be back", lambda: get(town.frontend, CATALOG + "/").name == "catalog-1")


def sidecar(app, spec):
    return ("apiVersion: networking.istio.io/v1\nkind: Sidecar\n"
            f"metadata: {{ name: {app}, namespace: shop }}\nspec: {{ workloadSelector: {{ labels: {{ app: {app} }} }}, "
            f"{spec} }}\n---\n")


def test_a_sidecar_forbids_what_is_not_known(town):
    outsider = f"http://{town.net.pods['outsider'].ip4}:8080/"
    assert get(town.frontend, outsider).name == "outsider"
    write(town, sidecar("frontend", "outboundTrafficPolicy: { mode: REGISTRY_ONLY }"))
    assert get(town.frontend, outsider).status == 0
    assert get(town.frontend, CATALOG + "/").status == 200
    assert get(town.payments, outsider).name == "outsider"
    write(town)
    assert get(town.frontend, outsider).name == "outsider"


def test_what_is_not_known_goes_to_the_egress_proxy(town):
    pod = town.net.pods["outsider"]
    write(town, sidecar("frontend", "outboundTrafficPolicy: { egressProxy: { host: payments, port: { number: 80 } } }"))
    answer = get(town.frontend, f"http://{pod.ip4}:8080/x", host="api.example.com")
    assert answer.name == "payments" and answer.seen("host") == "api.example.com", answer
    assert get(town.frontend, f"http://[{pod.ip6}]:8080/").name == "payments"
    assert get(town.frontend, CATALOG + "/").name.startswith("catalog")
    assert get(town.payments, f"http://{pod.ip4}:8080/").name == "outsider"
    write(town)
    assert get(town.frontend, f"http://{pod.ip4}:8080/").name == "outsider"


def callers_of_payments(town):
    """From the other node through a tunnel, and from its own."""
    return (town.frontend, town.stranger)


def test_an_application_takes_so_many_requests_at_once(town):
    write(town, sidecar("payments", "inboundConnectionPool: { http: { http2MaxRequests: 1 } }"))
    for place in callers_of_payments(town):
        assert get(place, "http://10.60.0.30/").name == "payments"
        seen = load(place, "10.60.0.30", requests=48, connections=12, path="/?delay=400")
        assert seen["failed"] == 0 and set(seen["status"]) == {"200", "503"}, seen
        assert get(place, "http://10.60.0.30/").status == 200  # what was counted was given back
    # For this port alone, in place of what is said of all.
    write(town, sidecar("payments", "inboundConnectionPool: { http: { http2MaxRequests: 1 } }, ingress: [ { port: { "
                        "number: 8080, protocol: HTTP, name: http }, connectionPool: { http: { http2MaxRequests: "
                        "100 } } } ]"))
    seen = load(town.frontend, "10.60.0.30", requests=48, connections=12, path="/?delay=60")
    assert seen["status"] == {"200": 48}, seen


def test_an_application_takes_so_many_connections_at_once(town):
    write(town, sidecar("payments", "inboundConnectionPool: { tcp: { maxConnections: 1 } }"))
    for place in callers_of_payments(town):
        began = time.monotonic()
        seen = load(place, "10.60.0.30", requests=12, connections=6, path="/?delay=100")
        assert seen["status"] == {"200": 12}, seen
        assert time.monotonic() - began >= 1.2, place.name  # one after the other
    write(town, sidecar("payments", "inboundConnectionPool: { tcp: { maxConnections: 1 }, http: { "
                        "http1MaxPendingRequests: 1 } }"))
    seen = load(town.frontend, "10.60.0.30", requests=48, connections=12, path="/?delay=400")
    assert set(seen["status"]) == {"200", "503"}, seen


def test_an_ingress_leads_to_another_port(town):
    web.serve(town.payments, 8081, name="inner")
    for protocol in ("HTTP", "TCP"):
        for endpoint in ("127.0.0.1:8081", "0.0.0.0:8081"):
            write(town, sidecar("payments", f"ingress: [ {{ port: {{ number: 8080, protocol: {protocol}, name: a }}, "
                                f"defaultEndpoint: \"{endpoint}\" }} ]"))
            for place in callers_of_payments(town):
                answer = get(place, "http://10.60.0.30/")
                assert answer.name == "inner", (protocol, endpoint, place.name, answer)
                # Over loopback an application sees loopback, as behind a sidecar.
                peer = "127.0.0.1" if endpoint.startswith("127") else place.ip4
                assert answer.json["peer"].rpartition(":")[0] == peer, answer.json["peer"]
    write(town)
    for place in callers_of_payments(town):
        assert get(place, "http://10.60.0.30/").name == "payments"
