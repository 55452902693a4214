# SPDX-License-Identifier: Apache-2.0
"""Which endpoint a request goes to, how many may go at once, and who is left out: DestinationRules of HTTP services."""
import time

import pytest

from lib import web
from lib.net import Net
from lib.shell import until_seen, wait_for
from lib.web import get, load

CATALOG = "http://10.60.0.20"
NO_RETRIES = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: catalog, namespace: shop }
spec:
  hosts: [ catalog ]
  http: [ { retries: { attempts: 0 }, route: [ { destination: { host: catalog } } ] } ]
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("balancing")) as net:
        made = web.build(net)
        made.mesh.write("20-no-retries.yaml", NO_RETRIES)
        yield made


def policy(town, text):
    town.mesh.write("21-rule.yaml", "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                    "metadata: { name: catalog, namespace: shop }\n"
                    f"spec: {{ host: catalog, trafficPolicy: {text} }}\n")
    town.mesh.settle()
    for agent in town.mesh.agents.values():
        assert agent.api("/v1/status")["config"]["problems"] == []


def servers(town, count=40, **options):
    return {get(town.frontend, CATALOG + "/", **options).name for _ in range(count)}


def health(town, name):
    """Of the server's endpoint, as the helper of the frontend's node sees it."""
    address = f"{town.net.pods[name].ip4}:8080"
    clusters = town.agent("node-a").api("/v1/proxy-config/upstreams")["items"]
    return {endpoint["health"] for cluster in clusters for endpoint in cluster["endpoints"]
            if endpoint["address"] == address}


def test_round_robin_is_even(town):
    policy(town, "{ loadBalancer: { simple: ROUND_ROBIN } }")
    seen = load(town.frontend, "10.60.0.20", requests=200, connections=1)
    assert seen["status"] == {"200": 200}
    assert abs(seen["server"]["catalog-1"] - 100) <= 2, seen


def test_a_header_sticks_to_an_endpoint(town):
    policy(town, "{ loadBalancer: { consistentHash: { httpHeaderName: x-user } } }")
    of = {user: servers(town, 4, headers={"X-User": user}) for user in (f"user-{i}" for i in range(12))}
    assert all(len(names) == 1 for names in of.values()), of
    assert set.union(*of.values()) == {"catalog-1", "catalog-2"}, of


def test_a_cookie_is_issued_and_sticks(town):
    policy(town, "{ loadBalancer: { consistentHash: { httpCookie: { name: session, ttl: 3600s, path: / }, "
           "maglev: { tableSize: 1009 } } } }")
    def session():
        first = get(town.frontend, CATALOG + "/")
        cookie = first.header("set-cookie")
        assert cookie and cookie.endswith("; Max-Age=3600; Path=/; HttpOnly"), first
        again = [get(town.frontend, CATALOG + "/", headers={"Cookie": cookie.partition(";")[0]}) for _ in range(3)]
        assert {answer.name for answer in again} == {first.name}
        assert all(answer.header("set-cookie") is None for answer in again)
        return first.name
    until_seen(session, {"catalog-1", "catalog-2"})


@pytest.fixture
def session(town):
    def put(text):
        town.mesh.write("22-session.yaml", (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: session, namespace: shop }\n"
            "spec:\n  parentRefs: [ { group: '', kind: Service, name: catalog } ]\n"
            f"  rules: [ {{ backendRefs: [ {{ name: catalog, port: 80 }} ], sessionPersistence: {{ {text} }} }} ]\n"))
        town.mesh.settle()
        for agent in town.mesh.agents.values():
            assert agent.api("/v1/status")["config"]["problems"] == []

    policy(town, "{ loadBalancer: { simple: ROUND_ROBIN } }")
    yield put
    town.mesh.remove("22-session.yaml")
    town.mesh.settle()


def test_a_session_by_header_sticks_until_it_is_idle(town, session):
    session("type: Header, sessionName: X-Session, idleTimeout: 600s")
    seen = set()
    for _ in range(6):
        first = get(town.frontend, CATALOG + "/")
        token = first.header("x-session")
        assert token, first
        for _ in range(5):
            again = get(town.frontend, CATALOG + "/", headers={"X-Session": token})
            assert again.name == first.name
            token = again.header("x-session") or token
        seen.add(first.name)
    assert seen == {"catalog-1", "catalog-2"}
    session("type: Header, sessionName: X-Session, idleTimeout: 1s")
    token = get(town.frontend, CATALOG + "/").header("x-session")
    time.sleep(2)  # that nothing happens is what it is about
    assert len({get(town.frontend, CATALOG + "/", headers={"X-Session": token}).name for _ in range(12)}) == 2


def test_a_session_by_cookie_sticks(town, session):
    session("sessionName: stick, absoluteTimeout: 1h, cookieConfig: { lifetimeType: Permanent }")
    first = get(town.frontend, CATALOG + "/")
    cookie = first.header("set-cookie")
    assert cookie.startswith("stick=") and "; Max-Age=3600; Path=/; HttpOnly" in cookie, first
    assert servers(town, 12, headers={"Cookie": "other=1; " + cookie.partition(";")[0]}) == {first.name}


def test_more_than_the_pool_allows_is_a_503(town):
    policy(town, "{ connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } } }")
    seen = load(town.frontend, "10.60.0.20", requests=64, connections=16, path="/?delay=500")
    assert seen["failed"] == 0 and set(seen["status"]) == {"200", "503"}, seen
    policy(town, "{ connectionPool: { tcp: { maxConnections: 100 } } }")
    seen = load(town.frontend, "10.60.0.20", requests=64, connections=16, path="/?delay=20")
    assert seen["status"] == {"200": 64}, seen


def test_http2_max_requests_is_a_503_that_says_overload(town):
    policy(town, "{ connectionPool: { http: { http2MaxRequests: 1 } } }")
    seen = load(town.frontend, "10.60.0.20", requests=32, connections=8, path="/?delay=500")
    assert set(seen["status"]) == {"200", "503"}, seen
    assert get(town.frontend, CATALOG + "/").status == 200


def test_connections_end_after_their_requests(town):
    policy(town, "{ connectionPool: { http: { maxRequestsPerConnection: 1 } }, loadBalancer: { simple: ROUND_ROBIN } }")
    # On the same node; through a tunnel the server sees the tunnel's port. Each worker has turns of its own.
    peers = [answer.json["peer"] for answer in (get(town.frontend, CATALOG + "/") for _ in range(20))
             if answer.name == "catalog-1"]
    assert len(peers) >= 8 and len(set(peers)) == len(peers), peers


def outliers(town, ejection):
    policy(town, "{ outlierDetection: { consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: %s, "
           "maxEjectionPercent: 100 }, loadBalancer: { simple: ROUND_ROBIN } }" % ejection)


def test_an_endpoint_that_fails_is_left_out(town):
    # The server of the second on the other node, and of the first on this one: each in turn.
    for name in ("catalog-2", "catalog-1"):
        outliers(town, "3600s")
        assert servers(town, 10) == {"catalog-1", "catalog-2"}
        place = town.net.pods[name]
        place.run("sh", "-c", "kill -9 $(ss -ltnpH 'sport = :8080' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u)")
        answers = [get(town.frontend, CATALOG + "/") for _ in range(20)]
        failed = [answer for answer in answers if answer.status != 200]
        assert 3 <= len(failed) <= 4, answers
        assert all(answer.status == 503 for answer in failed)
        assert {answer.name for answer in answers[-10:]} == {"catalog-1", "catalog-2"} - {name}
        assert health(town, name) == {"ejected"}
        assert "EJECTED" in town.agent("node-a").meshctl("proxy-config", "upstreams").stdout
        assert town.agent("node-a").metric("weft_helper_outlier_ejected_endpoints") == 1
        web.serve(place)
        policy(town, "{ loadBalancer: { simple: ROUND_ROBIN } }")  # what ends it at once
        assert health(town, name) == {"healthy"}
        assert town.agent("node-a").metric("weft_helper_outlier_ejected_endpoints") == 0


def test_an_endpoint_that_was_left_out_returns_by_itself(town):
    agent = town.agent("node-a")
    for name in ("catalog-2", "catalog-1"):
        outliers(town, "2s")
        before = agent.metric("weft_helper_outlier_ejections_total")
        assert get(town.net.pods[name], "http://127.0.0.1:8080/?broken=1").status == 500

        def ejected():
            servers(town, 4)
            return agent.metric("weft_helper_outlier_ejections_total") > before
        wait_for(f"{name} to be left out", ejected)
        assert get(town.net.pods[name], "http://127.0.0.1:8080/?broken=0").status == 200
        wait_for(f"{name} to be back", lambda n=name: n in servers(town, 2))
        wait_for("all to be well", lambda n=name: health(town, n) == {"healthy"} and agent.metric(
            "weft_helper_outlier_ejected_endpoints") == 0)
