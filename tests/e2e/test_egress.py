# SPDX-License-Identifier: Apache-2.0
"""Calls of names outside of the mesh whose addresses nobody gives: resolution NONE, decided by host and by server name."""

import pytest

from lib import traffic, web
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.web import get
from test_http_others import authority

ECHO = 9100
ENTRIES = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: wide, namespace: shop }
spec:
  hosts: [ "*.example.com" ]
  location: MESH_EXTERNAL
  resolution: NONE
  ports:
  - { number: 80, name: http, protocol: HTTP }
  - { number: 443, name: tls, protocol: TLS }
  - { number: 8081, name: upgraded, protocol: HTTP, targetPort: 8443 }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: one, namespace: shop }
spec:
  hosts: [ api.example.org ]
  location: MESH_EXTERNAL
  ports: [ { number: 80, name: http, protocol: HTTP }, { number: 443, name: https, protocol: HTTPS } ]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: bytes, namespace: shop }
spec:
  hosts: [ db.example.net ]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [ { number: ECHO, name: tcp, protocol: TCP } ]
---
""".replace("ECHO", str(ECHO))
SIDECAR = """apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: default, namespace: shop }
spec: { outboundTrafficPolicy: { mode: MODE } }
---
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    files = authority(tmp_path_factory.mktemp("egress") / "ca")
    with Net(tmp_path_factory.mktemp("egress-net")) as net:
        made = web.build(net, more=ENTRIES + service("first", "shop", [("tcp", 90, ECHO, "TCP")], ["10.60.0.60"], app="payments"))
        traffic.serve(net.pods["payments"], ECHO)
        stranger = net.pods["stranger"]
        web.serve(stranger, 80)
        traffic.serve(stranger, ECHO)
        traffic.serve(stranger, ECHO + 1)
        for port in (443, 8443):
            stranger.spawn("openssl", "s_server", "-accept", port, "-cert", files / "cert.pem", "-key",
                                    files / "key.pem", "-www", name=f"tls-{port}").wait_output("ACCEPT")
        made.files = files
        yield made


def policy(town, mode):
    town.mesh.write("15-sidecar.yaml", SIDECAR.replace("MODE", mode))
    town.mesh.settle()


@pytest.fixture
def allow_any(town):
    policy(town, "ALLOW_ANY")


@pytest.fixture
def registry_only(town):
    policy(town, "REGISTRY_ONLY")


def addresses(town):
    stranger = town.net.pods["stranger"]
    return [stranger.ip4, f"[{stranger.ip6}]"]


def tls(town, name, address, *words):
    """curl's answer from https://name/ at the address; without a name: of the address itself."""
    to = ["--resolve", f"{name}:443:{address}"] if name else []
    return get(town.frontend, f"https://{name or address}/", "-k", *to, *words)


def is_reset(answer):
    """The handshake did not come about: curl says so, or that reading failed."""
    return answer.status == 0 and answer.body in ("35", "56")


def test_registry_only_passes_the_hosts_that_are_written(town, registry_only):
    for address in addresses(town):
        for host in ("www.example.com", "a.b.example.com", "api.example.org"):
            answer = get(town.frontend, f"http://{address}/", host=host)
            assert answer.status == 200 and answer.name == "stranger", (host, answer)
            assert tls(town, host, address).status == 200, host


def test_registry_only_refuses_all_others(town, registry_only):
    agent = town.agent("node-a")
    for address in addresses(town):
        for host in ("example.com", "www.example.org", address):
            before = agent.metric("weft_drops_total", reason="not_in_registry")
            assert get(town.frontend, f"http://{address}/", host=host).status == 502, host
            assert is_reset(tls(town, "" if host == address else host, address)), host
            wait_for("both refusals to be counted", lambda n=before: agent.metric(
                "weft_drops_total", reason="not_in_registry") >= n + 2)


def test_allow_any_passes_all(town, allow_any):
    for address in addresses(town):
        for host in ("www.example.com", "www.example.org"):
            assert get(town.frontend, f"http://{address}/", host=host).name == "stranger", host
            assert tls(town, host, address).status == 200, host
        assert tls(town, "", address).status == 200


# --- what documents say of such hosts ---

ROUTES = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: wide, namespace: shop }
spec:
  hosts: [ "*.example.com" ]
  http:
  - match: [ { uri: { prefix: /teapot } } ]
    fault: { abort: { httpStatus: 418, percentage: { value: 100 } } }
    route: [ { destination: { host: "*.example.com" } } ]
  - match: [ { uri: { prefix: /slow } } ]
    timeout: 0.3s
    route: [ { destination: { host: "*.example.com" } } ]
  - route: [ { destination: { host: "*.example.com" }, headers: { request: { set: { x-via: mesh } } } } ]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: just, namespace: shop }
spec:
  hosts: [ just.example.com ]
  http: [ { directResponse: { status: 299 } } ]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: names, namespace: shop }
spec:
  hosts: [ api.example.org ]
  tls:
  - match: [ { port: 443, sniHosts: [ api.example.org ] } ]
    route: [ { destination: { host: first.shop.svc.cluster.local } } ]
---
"""


@pytest.fixture
def routes(town):
    town.mesh.write("50-routes.yaml", ROUTES)
    town.mesh.settle()
    yield
    town.mesh.remove("50-routes.yaml")
    town.mesh.settle()


def test_routes_of_such_hosts(town, registry_only, routes):
    url = f"http://{addresses(town)[0]}"
    assert get(town.frontend, f"{url}/teapot", host="www.example.com").status == 418
    assert get(town.frontend, f"{url}/slow?delay=5000", host="www.example.com").status == 504
    assert get(town.frontend, f"{url}/", host="www.example.com").seen("x-via") == "mesh"
    assert get(town.frontend, f"{url}/", host="just.example.com").status == 299
    assert get(town.frontend, f"{url}/teapot", host="api.example.org").status == 200


def test_server_names_are_routed(town, registry_only, routes):
    # A server that speaks first answers, and no TLS: the connection has gone where the route says.
    for address in addresses(town):
        assert is_reset(tls(town, "api.example.org", address))
        assert tls(town, "www.example.com", address).status == 200


def test_tls_is_originated_at_the_address_that_is_called(town, registry_only):
    rule = ("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: up, namespace: shop }\n"
            'spec: { host: "*.example.com", trafficPolicy: { portLevelSettings: [ { port: { number: 8081 }, tls: '
            f"{{ mode: SIMPLE, caCertificates: {town.files / 'ca.pem'}, subjectAltNames: [ api.example ] }} }} ] }} }}\n")
    town.mesh.write("40-up.yaml", rule)
    try:
        town.mesh.settle()
        for address in addresses(town):
            answer = get(town.frontend, f"http://{address}:8081/", host="www.example.com")
            assert answer.status == 200 and "TLSv1.3" in answer.body, answer
            assert get(town.frontend, f"http://{address}:8081/", host="www.example.org").status == 502
    finally:
        town.mesh.remove("40-up.yaml")
        town.mesh.settle()


DNS = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: dns, namespace: shop }
spec:
  hosts: [ dns.example.net ]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [ { number: 80, name: http, protocol: HTTP }, { number: 443, name: tls, protocol: TLS } ]
  endpoints: [ { address: STRANGER } ]
"""


def test_without_allocated_addresses_names_are_told_by_what_is_said_too(town, registry_only):
    mesh, nowhere = town.mesh, "203.0.113.9"
    mesh.write("10-mesh.yaml", "trustDomain: cluster.local\nweft: { dns: { autoAllocate: false } }\n")
    mesh.write("45-dns.yaml", DNS.replace("STRANGER", town.net.pods["stranger"].ip4))
    try:
        mesh.settle()
        assert get(town.frontend, f"http://{nowhere}/", host="dns.example.net").name == "stranger"
        assert tls(town, "dns.example.net", nowhere).status == 200
        assert get(town.frontend, f"http://{nowhere}/", host="nobody.example").status == 502
    finally:
        mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        mesh.remove("45-dns.yaml")
        mesh.settle()


# --- what is neither HTTP nor TLS, and other ports ---

SUBNETS = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: subnets, namespace: shop }
spec:
  hosts: [ db.example.net ]
  tcp:
  - match: [ { port: ECHO, destinationSubnets: [ "fd50::/16" ] } ]
    route: [ { destination: { host: first.shop.svc.cluster.local } } ]
  - route: [ { destination: { host: db.example.net } } ]
""".replace("ECHO", str(ECHO))


def test_bytes_are_routed_by_the_address_that_is_called(town, registry_only):
    stranger = town.net.pods["stranger"]
    town.mesh.write("46-subnets.yaml", SUBNETS)
    try:
        town.mesh.settle()
        for address, name in ((stranger.ip4, "stranger"), (stranger.ip6, "payments")):
            seen = traffic.call(town.frontend, address, ECHO)
            assert seen["ok"] and seen["answer"]["name"] == name, seen
    finally:
        town.mesh.remove("46-subnets.yaml")
        town.mesh.settle()


def test_bytes_pass_at_any_address_of_their_port_alone(town, registry_only):
    stranger = town.net.pods["stranger"]
    for address in (stranger.ip4, stranger.ip6):
        seen = traffic.call(town.frontend, address, ECHO)
        assert seen["ok"] and seen["answer"]["name"] == "stranger", seen
        assert not traffic.call(town.frontend, address, ECHO + 1)["ok"]
    wait_for("a direct flow of the service", lambda: town.agent("node-a").flows(path="direct", service="db.example.net"))


def test_other_ports_and_known_pods_stay_in_the_kernel(town, allow_any):
    stranger, agent = town.net.pods["stranger"], town.agent("node-a")
    assert traffic.call(town.frontend, stranger.ip4, ECHO + 1)["ok"]
    wait_for("a direct flow", lambda: [f for f in agent.flows(path="direct") if f":{ECHO + 1}" in str(f)])
    # A pod's own address is its own, whatever port an entry has.
    catalog = town.net.pods["catalog-1"]
    traffic.serve(catalog, 443)
    assert traffic.call(town.frontend, catalog.ip4, 443)["ok"]
    wait_for("an attested flow", lambda: [f for f in agent.flows(path="attested") if ":443" in str(f)])


# --- what is told ---

def test_requests_are_told_of_by_their_service(town, registry_only):
    agent, url = town.agent("node-a"), f"http://{addresses(town)[0]}/"

    def requests(**labels):
        return agent.metric("istio_requests_total", reporter="source", **labels)

    def grows(**labels):
        before = requests(**labels)
        return lambda: requests(**labels) > before
    known = grows(destination_service="*.example.com", destination_service_namespace="shop", response_code="200")
    blocked = grows(destination_service_name="BlackHoleCluster", response_code="502")
    get(town.frontend, url, host="www.example.com")
    get(town.frontend, url, host="nobody.example")
    wait_for("the known host's request to be counted", known)
    wait_for("the refused request to be counted", blocked)
    policy(town, "ALLOW_ANY")
    passed = grows(destination_service_name="PassthroughCluster", response_code="200")
    get(town.frontend, url, host="nobody.example")
    wait_for("the passed request to be counted", passed)


def test_explain_tells_what_happens(town, registry_only):
    agent = town.agent("node-a")

    def explain(destination):
        return agent.api(f"/v1/explain?source=shop/frontend&destination={destination}")

    def request(url):
        return agent.api(f"/v1/http/explain?source=shop/frontend&url={url}")
    address = addresses(town)[0]
    known = explain("www.example.com:443")
    assert known["verdict"] == "allowed" and known["path"] == "http", known
    assert any("outbound|443||*.example.com" in note for note in known["notes"]), known
    unknown = explain("nobody.example:443")
    assert unknown["verdict"] == "refused" and unknown["outbound"]["reason"] == "not_in_registry", unknown
    assert explain(f"{address}:443")["verdict"] == "unknown"
    assert explain(f"{address}:{ECHO}")["verdict"] == "allowed"
    assert explain(f"{address}:{ECHO + 1}")["verdict"] == "refused"
    assert request("http://www.example.com/")["verdict"] == "allowed"
    refused = request("http://nobody.example/")
    assert refused["verdict"] == "refused" and refused["response"]["status"] == 502, refused
    policy(town, "ALLOW_ANY")
    assert request("http://nobody.example/")["verdict"] == "allowed"
    assert explain("nobody.example:443")["verdict"] == "allowed"
    text = agent.meshctl("explain", "shop/frontend", "www.example.com:443").stdout
    assert "*:443" in text, text
