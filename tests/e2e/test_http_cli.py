# SPDX-License-Identifier: Apache-2.0
"""meshctl on HTTP: explaining requests, routes, live requests, rates."""
import json
import time

import pytest

from lib import web
from lib.net import Net
from lib.shell import BUILD, wait_for
from lib.web import get, load

CATALOG, PAYMENTS = "http://10.60.0.20", "http://10.60.0.30"
CONFIG = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: catalog, namespace: shop }
spec:
  host: catalog
  subsets:
  - { name: v1, labels: { version: v1 } }
  - { name: v2, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: catalog, namespace: shop }
spec:
  hosts: [ catalog ]
  http:
  - name: canary
    match: [ { headers: { x-canary: { exact: "true" } } } ]
    retries: { attempts: 3, retryOn: 5xx }
    timeout: 4s
    route: [ { destination: { host: catalog, subset: v2 } } ]
  - name: moved
    match: [ { uri: { prefix: /old } } ]
    redirect: { uri: /new }
  - name: public
    match: [ { uri: { exact: /public } } ]
    rewrite: { uri: /secret }
    route: [ { destination: { host: catalog, subset: v1 } } ]
  - name: public-far
    match: [ { uri: { exact: /public-far } } ]
    rewrite: { uri: /secret }
    route: [ { destination: { host: catalog, subset: v2 } } ]
  - name: stable
    route: [ { destination: { host: catalog, subset: v1 } } ]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: catalog-secret, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  action: DENY
  rules:
  - to: [ { operation: { paths: [ /secret ] } } ]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: payments-no-admin, namespace: shop }
spec:
  selector: { matchLabels: { app: payments } }
  action: DENY
  rules:
  - to: [ { operation: { paths: [ "/admin*" ] } } ]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: payments-get, namespace: shop }
spec:
  selector: { matchLabels: { app: payments } }
  action: ALLOW
  rules:
  - from: [ { source: { principals: [ cluster.local/ns/shop/sa/frontend ] } } ]
    to: [ { operation: { methods: [ GET ] } } ]
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("httpcli")) as net:
        made = web.build(net)
        made.mesh.write("20-http.yaml", CONFIG)
        made.mesh.settle()
        yield made


def meshctl(town, *words, node="node-a"):
    return town.agent(node).meshctl(*words, check=False)


def explain(town, *words):
    done = meshctl(town, "explain", *words, "-o", "json")
    return done.returncode, json.loads(done.stdout)


def test_explain_a_canary(town):
    status, x = explain(town, "frontend", "http://catalog/items", "-H", "X-Canary: true")
    assert status == 0 and x["verdict"] == "allowed", x
    assert x["outbound"] == {"decided_by": "kernel", "to_helper": True}
    assert [route["name"] for route in x["routes"] if route["taken"]] == ["canary"]
    assert x["route"]["retries"].startswith("3 on 5xx") and x["route"]["timeout_ms"] == 4000
    assert [cluster["name"] for cluster in x["clusters"]] == ["outbound|80|v2|catalog.shop.svc.cluster.local"]
    assert {e["workload"] for e in x["clusters"][0]["endpoints"]} == {"shop/catalog-2"}
    assert get(town.frontend, CATALOG + "/items", headers={"X-Canary": "true"}).name == "catalog-2"


@pytest.mark.parametrize("url", ["http://[fd60::20]/x", "http://10.60.0.20:80/x", "http://catalog.shop:80/x"])
def test_explain_by_address_of_either_family(town, url):
    status, x = explain(town, "frontend", url, "-H", "x-canary: true")
    assert status == 0 and x["destination"]["service"]["hostname"] == "catalog.shop.svc.cluster.local", x
    assert [route["name"] for route in x["routes"] if route["taken"]] == ["canary"]


def test_the_host_header_decides_before_the_address(town):
    status, x = explain(town, "frontend", "http://catalog/x", "-H", "Host: payments")
    assert status == 0 and x["target"]["service"] == "shop/payments.shop.svc.cluster.local", x
    assert get(town.frontend, CATALOG + "/x", host="payments").name == "payments"


def test_explain_tells_why_the_canary_is_not_taken(town):
    done = meshctl(town, "explain", "frontend", "http://catalog/items", "-H", "X-Canary: false")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    canary = next(i for i, line in enumerate(lines) if "- canary" in line)
    assert "VirtualService shop/catalog (20-http.yaml:" in lines[canary]
    assert "header x-canary = true" in lines[canary + 1] and "no: header" in lines[canary + 1], lines[canary + 1]
    assert any("* stable" in line for line in lines)
    assert "shop/catalog-1" in done.stdout and "shop/catalog-2" not in done.stdout
    assert get(town.frontend, CATALOG + "/items", headers={"X-Canary": "false"}).name == "catalog-1"


def test_explain_a_redirect(town):
    status, x = explain(town, "frontend", "http://catalog/a/../old/x")
    assert status == 0 and x["response"]["status"] == 301 and x["request"]["path"] == "/old/x"


@pytest.mark.parametrize("path, method, rule, allowed", [
    ("/ledger", "GET", "shop/payments-get", True),
    ("/admin/x", "GET", "shop/payments-no-admin", False),
    ("/%61dmin/x", "GET", "shop/payments-no-admin", False),
    ("/ledger", "POST", None, False),
])
def test_explain_agrees_with_what_happens(town, path, method, rule, allowed):
    """payments is on the other node: its policy is told from the same configuration."""
    status, x = explain(town, "frontend", f"http://payments{path}", "-X", method)
    (end,) = {json.dumps(end["rule"]) for end in x["inbound"]}
    end = json.loads(end)
    assert (end["name"] if end else None) == rule
    assert status == (0 if allowed else 1) and x["verdict"] == ("allowed" if allowed else "refused"), x
    answer = get(town.frontend, PAYMENTS + path, method=method, data="x" if method == "POST" else None)
    assert answer.status == (200 if allowed else 403), answer


@pytest.mark.parametrize("path, status", [("/public", 403), ("/public-far", 403), ("/secret", 403), ("/open", 200)])
def test_explain_judges_what_the_route_makes_of_a_request(town, path, status):
    code, x = explain(town, "frontend", f"http://catalog{path}")
    assert code == (0 if status == 200 else 1), x
    assert get(town.frontend, CATALOG + path).status == status


def test_explain_a_denial_in_words(town):
    done = meshctl(town, "explain", "frontend", "http://payments/admin")
    assert done.returncode == 1
    assert "refused by DENY shop/payments-no-admin, rule 1 (20-http.yaml:" in done.stdout, done.stdout
    assert "ALLOW shop/payments-get, rule 1 (20-http.yaml:" in done.stdout
    other = meshctl(town, "explain", "catalog-1", "http://payments/x")
    assert other.returncode == 1 and "does not match: from" in other.stdout, other.stdout


def test_explain_where_the_destination_is(town):
    status, x = explain(town, town.net.pods["stranger"].ip4, "http://payments.shop/x")
    assert status == 1 and x["routes"] == [] and x["inbound"][0]["peer"] is None
    done = meshctl(town, "explain", "catalog-2", "http://payments/x", "-o", "json", node="node-b")
    x = json.loads(done.stdout)
    assert done.returncode == 1 and x["inbound"][0]["reason"] == "policy_no_allow", x


def test_explain_a_connection_to_an_http_service(town):
    done = meshctl(town, "explain", "frontend", "payments:80")
    assert done.returncode == 0, done.stdout
    assert "HTTP engine" in done.stdout and "each request is judged" in done.stdout


def test_authz_check_of_http_rules(town):
    done = meshctl(town, "authz", "check", "frontend", "payments:80")
    assert done.returncode == 1 and "each request is judged by its rules" in done.stdout, done.stdout
    assert meshctl(town, "authz", "check", "frontend", "http://payments/x").returncode == 0
    assert meshctl(town, "authz", "check", "frontend", "http://payments/x", "-X", "POST").returncode == 1


def test_explain_bad_requests(town):
    assert meshctl(town, "explain", "frontend", "https://payments/").returncode == 2
    done = meshctl(town, "explain", "frontend", "http://payments/%00")
    assert done.returncode == 2 and "answered with 400" in done.stderr


def test_routes(town):
    done = meshctl(town, "proxy-config", "routes", "frontend", "--service", "catalog")
    rows = done.stdout.splitlines()
    assert done.returncode == 0 and len(rows) == 6, done.stdout
    assert "header x-canary = true" in rows[1] and "|v2|" in rows[1] and "20-http.yaml:" in rows[1]
    assert "path prefix /old" in rows[2] and "redirect 301" in rows[2]
    everything = json.loads(meshctl(town, "proxy-config", "routes", "frontend", "-o", "json").stdout)["items"]
    assert {item["service"].split(".")[0] for item in everything} >= {"catalog", "payments"}


def tap(town, *words):
    agent = town.agent("node-a")
    return agent.node.spawn(f"{BUILD}/meshctl", "--socket", agent.socket, "tap", *words, name=f"tap-{time.time_ns()}")


def test_tap_shows_a_live_request_that_the_filter_takes(town):
    watcher = tap(town, "catalog", "--filter", "response.code == 404 && xds.route_name == 'stable'", "--count", "1", "-o", "json")

    def seen():
        get(town.frontend, CATALOG + "/fine")
        get(town.frontend, PAYMENTS + "/other?status=404")
        get(town.frontend, CATALOG + "/missing?status=404")
        return not watcher.alive()
    wait_for("tap to end after one request", seen)
    (row,) = [json.loads(line) for line in watcher.output().splitlines() if line.startswith("{")]
    assert row["status"] == 404 and row["path"] == "/missing?status=404" and row["route"] == "stable"


def tap_denial(town):
    """What tap said of a request that is refused."""
    watcher = tap(town, "--filter", "response.code == 403 && request.method == 'GET'", "--count", "1")

    def seen():
        get(town.frontend, PAYMENTS + "/admin")
        return not watcher.alive()
    wait_for("tap to end after one request", seen)
    return watcher.output()


def test_tap_in_words_and_a_denial(town):
    line = tap_denial(town).splitlines()[0]
    assert " 403 GET 10.60.0.30/admin" in line and "shop/frontend ->" in line, line


def test_taps_that_were_left_make_room(town):
    for _ in range(6):
        watcher = tap(town)
        time.sleep(0.7)
        watcher.stop()
    wait_for("room for another", lambda: " 403 GET 10.60.0.30/admin" in tap_denial(town), every=0.5)


def test_tap_with_a_filter_that_makes_no_sense(town):
    for words in ("response.code >=", "respons.code == 1"):
        done = meshctl(town, "tap", "--filter", words)
        assert done.returncode == 2 and "the filter" in done.stderr, done


def test_top(town):
    watcher = town.agent("node-a")
    process = web.load_begin(town.frontend, "10.60.0.20", seconds=300)
    rows = {}

    def seen():
        nonlocal rows
        done = watcher.meshctl("top", "--once", "--interval", "1", "-o", "json")
        rows = {row["name"]: row for row in json.loads(done.stdout)["items"]}
        return any(name.startswith("catalog.shop") for name in rows)
    wait_for("top to show the service", seen)
    web.load_end(process)
    (row,) = [row for name, row in rows.items() if name.startswith("catalog.shop")]
    assert row["requests_per_s"] > 1 and row["success"] > 0.99 and 0 < row["p50_ms"] <= row["p99_ms"], row
    load(town.frontend, "10.60.0.20", requests=10)
    text = watcher.meshctl("top", "--once", "--interval", "0.1").stdout
    assert text.startswith("SERVICE") or text.startswith("No requests")


def test_status_and_services_make_sense_of_http(town):
    get(town.frontend, CATALOG + "/x")
    agent = town.agent("node-a")
    assert "HTTP: requests are routed" in agent.meshctl("describe", "service", "shop/catalog").stdout
    assert wait_for("a flow by the HTTP engine", lambda: agent.meshctl("flows", "--path", "http").stdout.strip() not in
                    ("", "No flows."))
    assert "catalog.shop.svc.cluster.local:80" in agent.meshctl("authn", "tls-check").stdout
    assert agent.meshctl("status").returncode == 0
