# SPDX-License-Identifier: Apache-2.0
"""The other documents that route: HTTPRoutes, delegates, TCP routes, ServiceEntries and Sidecars, as their users write them."""
import pytest

from lib import web
from lib.net import Net
from lib.shell import until_seen
from lib.web import get, load

CATALOG, PAYMENTS = "http://10.60.0.20", "http://10.60.0.30"


def istio(kind, name, spec, ns="shop"):
    return f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{ name: {name}, namespace: {ns} }}\nspec: {spec}\n---\n"


def route(name, rules, parent="catalog", kind="HTTPRoute"):
    return (f"apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{ name: {name}, namespace: shop }}\n"
            f"spec: {{ parentRefs: [ {{ group: '', kind: Service, name: {parent} }} ], rules: [ {rules} ] }}\n---\n")


def vips(name, vip, version, port="http"):
    return (f"apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ clusterIPs: [ {vip} ], "
            f"selector: {{ app: catalog, version: {version} }}, ports: [ {{ name: {port}, port: 80, targetPort: 8080 }} ] }}\n---\n")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("documents")) as net:
        made = web.build(net)
        made.mesh.write("20-versions.yaml", vips("old", "10.60.0.21", "v1") + vips("new", "10.60.0.22", "v2"))
        yield made


@pytest.fixture(autouse=True)
def no_documents(town):
    yield
    try:
        town.mesh.remove("21-routes.yaml")
    except FileNotFoundError:
        pass
    town.mesh.settle()


def documents(town, *texts):
    town.mesh.write("21-routes.yaml", "".join(texts))
    town.mesh.settle()
    for agent in town.mesh.agents.values():
        assert agent.api("/v1/status")["config"]["problems"] == []


def test_http_route_takes_the_most_specific_match(town):
    documents(town, route("a", "{ backendRefs: [ { name: old, port: 80 } ] }, "
                          "{ matches: [ { path: { value: /v2 } } ], backendRefs: [ { name: new, port: 80 } ], "
                          "filters: [ { type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } } ] }, "
                          "{ matches: [ { path: { value: /v2 }, headers: [ { name: X-Old, value: 'yes' } ] } ], "
                          "backendRefs: [ { name: old, port: 80 } ] }"))
    assert get(town.frontend, CATALOG + "/").name == "catalog-1"
    answer = get(town.frontend, CATALOG + "/v2/items?q=1")
    assert answer.name == "catalog-2" and answer.json["target"] == "/items?q=1", answer
    assert get(town.frontend, CATALOG + "/v2x").name == "catalog-1"
    assert get(town.frontend, CATALOG + "/v2/x", headers={"x-old": "yes"}).name == "catalog-1"


def test_http_route_shares_between_backends_and_500_for_the_invalid_one(town):
    documents(town, route("a", "{ backendRefs: [ { name: old, port: 80, weight: 70 }, { name: new, port: 80, weight: 20 }, "
                          "{ name: nobody, port: 80, weight: 10 } ] }"))
    seen = load(town.frontend, "10.60.0.20", requests=5000, connections=4)
    assert abs(seen["status"]["500"] - 500) <= 145, seen  # nearly seven standard deviations
    assert abs(seen["server"]["catalog-2"] - 1000) <= 195, seen


def test_http_route_redirects_and_what_matches_nothing_is_a_404(town):
    documents(town, route("a", "{ matches: [ { path: { type: Exact, value: /only } } ], filters: [ { type: RequestRedirect, "
                          "requestRedirect: { scheme: https, hostname: shop.example, statusCode: 301 } } ] }"))
    answer = get(town.frontend, CATALOG + "/only")
    assert answer.status == 301 and answer.header("location") == "https://shop.example/only", answer
    assert get(town.frontend, CATALOG + "/other").status == 404


def test_http_route_counts_before_a_virtual_service(town):
    documents(town, istio("VirtualService", "v", "{ hosts: [ catalog ], http: [ { directResponse: { status: 299 } } ] }"))
    assert get(town.frontend, CATALOG).status == 299
    documents(town, istio("VirtualService", "v", "{ hosts: [ catalog ], http: [ { directResponse: { status: 299 } } ] }"),
              route("a", "{ backendRefs: [ { name: new, port: 80 } ] }"))
    assert get(town.frontend, CATALOG).name == "catalog-2"


def test_delegates_keep_the_roots_conditions(town):
    documents(town, istio("VirtualService", "root", "{ hosts: [ catalog ], http: [ { match: [ { uri: { prefix: /team } } ], "
                          "delegate: { name: team } }, { route: [ { destination: { host: old } } ] } ] }"),
              istio("VirtualService", "team", "{ http: [ { match: [ { uri: { prefix: /team/new } } ], route: [ { destination: "
                    "{ host: new } } ] }, { match: [ { uri: { prefix: /elsewhere } } ], directResponse: { status: 299 } } ] }"))
    assert get(town.frontend, CATALOG + "/team/new/1").name == "catalog-2"
    assert get(town.frontend, CATALOG + "/elsewhere").name == "catalog-1"


def test_the_host_decides_before_the_address(town):
    assert get(town.frontend, CATALOG, host="payments").name == "payments"
    assert get(town.frontend, CATALOG, host="new.shop.svc.cluster.local").name == "catalog-2"
    assert get(town.frontend, CATALOG, host="elsewhere.example").name in ("catalog-1", "catalog-2")


def test_tcp_routes_are_weighted(town):
    documents(town, vips("raw", "10.60.0.23", "v1", port="tcp"),
              istio("VirtualService", "raw", "{ hosts: [ raw ], tcp: [ { route: [ { destination: { host: raw }, weight: 50 }, "
                    "{ destination: { host: new, port: { number: 80 } }, weight: 50 } ] } ] }"))
    until_seen(lambda: get(town.frontend, "http://10.60.0.23/").name, {"catalog-1", "catalog-2"})


def test_external_service_by_a_service_entry(town):
    """What is outside of the mesh is called in plaintext, with routes, retries and limits all the same."""
    stranger = town.net.pods["stranger"]
    documents(town, istio("ServiceEntry", "api", "{ hosts: [ api.example ], addresses: [ 10.60.0.24 ], location: MESH_EXTERNAL, "
                          "resolution: STATIC, ports: [ { number: 80, name: http, protocol: HTTP, targetPort: 8080 } ], endpoints: "
                          f"[ {{ address: {stranger.ip4} }} ] }}"),
              istio("VirtualService", "api", "{ hosts: [ api.example ], http: [ { headers: { request: { set: { x-set: 'out' } } }, "
                    "route: [ { destination: { host: api.example } } ] } ] }"))
    answer = get(town.frontend, "http://10.60.0.24/x", host="api.example")
    assert answer.name == "stranger" and answer.seen("x-set") == "out", answer


def test_sidecar_with_registry_only_refuses_what_is_not_seen(town):
    sidecar = istio("Sidecar", "default", "{ egress: [ { hosts: [ './catalog.shop.svc.cluster.local' ] } ], "
                    "outboundTrafficPolicy: { mode: REGISTRY_ONLY } }")
    documents(town, sidecar)
    assert get(town.frontend, CATALOG).status == 200
    assert get(town.frontend, PAYMENTS).status in (0, 502)
    assert get(town.frontend, CATALOG, host="payments").name in ("catalog-1", "catalog-2")
