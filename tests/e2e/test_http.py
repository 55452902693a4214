# SPDX-License-Identifier: Apache-2.0
"""HTTP between pods: routing, rewriting, faults, retries, limits, as VirtualServices and DestinationRules say."""
import hashlib
import json
import time

import pytest

from lib import web
from lib.net import Net
from lib.shell import wait_for
from lib.web import get, load

CATALOG, PAYMENTS = "http://10.60.0.20", "http://10.60.0.30"
SUBSETS = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: catalog, namespace: shop }
spec:
  host: catalog
  subsets:
  - { name: v1, labels: { version: v1 } }
  - { name: v2, labels: { version: v2 } }
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("http")) as net:
        made = web.build(net)
        made.mesh.write("20-subsets.yaml", SUBSETS)
        yield made


def routes(town, *rules, host="catalog"):
    """Puts these routes of one VirtualService in force; each is the YAML of one element of spec.http."""
    text = (f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {host}, namespace: shop }}\n"
            f"spec:\n  hosts: [ {host} ]\n  http:\n" + "".join(f"  - {rule}\n" for rule in rules))
    town.mesh.write(f"21-{host}.yaml", text)
    town.mesh.settle()
    for agent in town.mesh.agents.values():
        assert agent.api("/v1/status")["config"]["problems"] == []


def to(subset, host="catalog"):
    return f"{{ destination: {{ host: {host}, subset: {subset} }} }}"


@pytest.fixture(autouse=True)
def no_routes(town):
    yield
    for host in ("catalog", "payments"):
        try:
            town.mesh.remove(f"21-{host}.yaml")
        except FileNotFoundError:
            pass
    town.mesh.settle()


# --- plain ---

@pytest.mark.parametrize("url", ["http://10.60.0.20/", "http://[fd60::20]/", "http://catalog.shop.svc.cluster.local/"])
def test_a_service_answers_over_both_families_and_by_name(town, url):
    answer = get(town.frontend, url)
    assert answer.status == 200, answer
    assert answer.name in ("catalog-1", "catalog-2")
    assert answer.json["method"] == "GET" and answer.json["target"] == "/"


def test_both_endpoints_are_used(town):
    seen = load(town.frontend, "10.60.0.20", requests=200)
    assert seen["failed"] == 0 and seen["status"] == {"200": 200}
    assert set(seen["server"]) == {"catalog-1", "catalog-2"}


def test_host_is_kept_and_hop_by_hop_headers_are_not(town):
    answer = get(town.frontend, CATALOG + "/x?y=1", host="anything.example",
                 headers={"Connection": "x-secret", "X-Secret": "1", "Keep-Alive": "300", "X-Kept": "yes"})
    assert answer.status == 200, answer
    assert answer.seen("host") == "anything.example"
    assert answer.seen("x-kept") == "yes" and answer.seen("x-secret") is None and answer.seen("keep-alive") is None
    assert answer.json["target"] == "/x?y=1"
    assert answer.seen("x-request-id") and answer.seen("x-forwarded-proto") == "http"


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "OPTIONS", "PATCH"])
def test_methods(town, method):
    answer = get(town.frontend, CATALOG + "/m", method=method)
    assert answer.status == 200, answer
    assert method == "HEAD" or answer.json["method"] == method


@pytest.mark.parametrize("status", [204, 304, 404, 500])
def test_status_codes_pass(town, status):
    assert get(town.frontend, f"{CATALOG}/?status={status}").status == status


def test_http_1_0_client(town):
    answer = get(town.frontend, CATALOG + "/?chunked=1", "--http1.0")
    assert answer.status == 200 and answer.json["method"] == "GET"
    assert answer.header("transfer-encoding") is None


def test_chunked_with_trailers_both_ways(town):
    answer = get(town.frontend, CATALOG + "/?trailers=1", "-T", "/etc/hostname", headers={"Transfer-Encoding": "chunked"})
    assert answer.status == 200, answer
    body, _, trailers = answer.body.partition("}x-trailer: ")  # curl -i shows them behind the body
    assert '"body": ' in body and '"body": 0,' not in body and trailers.startswith("seen")


def test_large_bodies_both_ways(town):
    done = town.frontend.run("bash", "-c", f"head -c 30000000 /dev/urandom >{town.net.directory}/big; "
                             f"curl -s --max-time 170 -T {town.net.directory}/big http://10.60.0.30/up")
    assert '"body": 30000000' in done.stdout, done.stdout[:300]
    done = town.frontend.run("bash", "-c", "curl -s --max-time 170 'http://10.60.0.30/?size=30000000' | md5sum")
    assert done.stdout.split()[0] == hashlib.md5(b"x" * 30000000).hexdigest()


def test_expect_continue(town):
    answer = get(town.frontend, PAYMENTS + "/", headers={"Expect": "100-continue"}, method="POST", data="x" * 2000)
    assert answer.status == 200 and answer.json["body"] == 2000


def test_server_sent_events_arrive_one_by_one(town):
    script = ("import http.client, time\n"
              "c = http.client.HTTPConnection('10.60.0.30', 80, timeout=60); c.request('GET', '/sse')\n"
              "r, seen = c.getresponse(), []\n"
              "for i in range(100):\n"
              "    assert r.readline() == b'data: %d\\n' % i and r.readline() == b'\\n'\n"
              "    seen.append(time.monotonic())\n"
              "print(seen[-1] - seen[0])\n")
    took = float(town.frontend.run("/usr/bin/python3", "-c", script).stdout)
    assert took > 1, "the server needs five seconds to say them; held back they would come at once"


def test_upgrade_carries_bytes(town):
    script = ("import socket\n"
              "s = socket.create_connection(('10.60.0.30', 80), 60)\n"
              "s.sendall(b'GET /ws HTTP/1.1\\r\\nHost: payments\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n')\n"
              "head = b''\n"
              "while b'\\r\\n\\r\\n' not in head: head += s.recv(4096)\n"
              "assert head.startswith(b'HTTP/1.1 101'), head\n"
              "s.sendall(b'ping' * 10000)\n"
              "got = 0\n"
              "while got < 40000: got += len(s.recv(65536))\n"
              "s.shutdown(socket.SHUT_WR)\n"
              "assert s.recv(10) == b''\n"
              "print('echoed')\n")
    assert town.frontend.run("/usr/bin/python3", "-c", script).stdout.strip() == "echoed"


def test_pipelined_requests_are_answered_in_order(town):
    script = ("import socket\n"
              "s = socket.create_connection(('10.60.0.30', 80), 60)\n"
              "s.sendall(b''.join(b'GET /?header=X-N:%d HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' % i for i in range(5)))\n"
              "data = b''\n"
              "while data.count(b'X-N: ') + data.count(b'x-n: ') < 5: data += s.recv(65536)\n"
              "import re\n"
              "print(re.findall(rb'[xX]-[nN]: (\\d)', data))\n")
    done = town.frontend.run("/usr/bin/python3", "-c", script)
    assert done.stdout.strip() == "[b'0', b'1', b'2', b'3', b'4']"


# --- routes ---

def test_canary_by_header_and_query(town):
    routes(town, "{ match: [ { headers: { x-canary: { exact: 'true' } } }, { queryParams: { canary: { exact: '1' } } } ], "
           f"route: [ {to('v2')} ] }}", f"{{ route: [ {to('v1')} ] }}")
    for _ in range(5):
        assert get(town.frontend, CATALOG, headers={"X-Canary": "true"}).name == "catalog-2"
        assert get(town.frontend, CATALOG + "/?canary=1").name == "catalog-2"
        assert get(town.frontend, CATALOG, headers={"X-Canary": "maybe"}).name == "catalog-1"


def test_weights_hold(town):
    routes(town, f"{{ route: [ {{ destination: {{ host: catalog, subset: v1 }}, weight: 90 }}, "
           f"{{ destination: {{ host: catalog, subset: v2 }}, weight: 10 }} ] }}")
    seen = load(town.frontend, "10.60.0.20", requests=10000, connections=8)
    assert seen["failed"] == 0 and seen["status"] == {"200": 10000}
    assert abs(seen["server"]["catalog-2"] - 1000) <= 200, seen  # nearly seven standard deviations


def test_prefix_rewrite_headers_and_authority(town):
    routes(town, "{ match: [ { uri: { prefix: /api/v1/ } } ], rewrite: { uri: /, authority: inner.example }, "
           "headers: { request: { set: { x-set: 'one' }, add: { x-add: 'two' }, remove: [ x-gone ] }, "
           "response: { set: { x-served-by: mesh } } }, " f"route: [ {to('v1')} ] }}")
    answer = get(town.frontend, CATALOG + "/api/v1/items?q=1", headers={"X-Gone": "1", "X-Set": "old"})
    assert answer.status == 200, answer
    assert answer.json["target"] == "/items?q=1" and answer.seen("host") == "inner.example"
    assert answer.seen("x-set") == "one" and answer.seen("x-add") == "two" and answer.seen("x-gone") is None
    assert answer.header("x-served-by") == "mesh"
    assert get(town.frontend, CATALOG + "/other").status == 404


def test_regex_match_and_regex_rewrite(town):
    routes(town, "{ match: [ { uri: { regex: '/users/[0-9]+' } } ], rewrite: { uriRegexRewrite: "
           r"{ match: '/users/([0-9]+)', rewrite: '/u?id=\1' } }, " f"route: [ {to('v1')} ] }}")
    assert get(town.frontend, CATALOG + "/users/42").json["target"] == "/u?id=42"
    assert get(town.frontend, CATALOG + "/users/42x").status == 404


def test_redirect_and_direct_response(town):
    routes(town, "{ match: [ { uri: { exact: /old } } ], redirect: { uri: /new, redirectCode: 308 } }",
           "{ match: [ { uri: { exact: /teapot } } ], directResponse: { status: 418, body: { string: short } } }")
    answer = get(town.frontend, CATALOG + "/old", host="catalog")
    assert answer.status == 308 and answer.header("location") == "http://catalog/new", answer
    answer = get(town.frontend, CATALOG + "/teapot")
    assert answer.status == 418 and answer.body == "short"


def test_fault_abort_and_delay(town):
    routes(town, "{ match: [ { headers: { x-chaos: { exact: abort } } } ], "
           f"fault: {{ abort: {{ percentage: {{ value: 100 }}, httpStatus: 555 }} }}, route: [ {to('v1')} ] }}",
           f"{{ fault: {{ delay: {{ percentage: {{ value: 100 }}, fixedDelay: 700ms }} }}, route: [ {to('v1')} ] }}")
    assert get(town.frontend, CATALOG, headers={"X-Chaos": "abort"}).status == 555
    began = time.monotonic()
    assert get(town.frontend, CATALOG).status == 200
    assert time.monotonic() - began >= 0.7


def test_timeout_is_a_504(town):
    routes(town, f"{{ match: [ {{ uri: {{ prefix: /short }} }} ], timeout: 300ms, retries: {{ attempts: 0 }}, route: [ {to('v1')} ] }}",
           f"{{ timeout: 60s, retries: {{ attempts: 0 }}, route: [ {to('v1')} ] }}")
    answer = get(town.frontend, CATALOG + "/short?delay=60000")
    assert answer.status == 504 and answer.body == "upstream request timeout", answer
    assert get(town.frontend, CATALOG + "/?delay=500").status == 200


def test_retries_until_it_succeeds(town):
    routes(town, f"{{ retries: {{ attempts: 3, perTryTimeout: 60s, retryOn: 5xx }}, route: [ {to('v1')} ] }}")
    answer = get(town.frontend, CATALOG + "/?fail=2&key=retry-a")
    assert answer.status == 200, answer
    assert answer.seen("x-envoy-attempt-count") == "3"
    assert get(town.frontend, CATALOG + "/?fail=9&key=retry-b").status == 503


def test_an_answer_that_may_not_be_retried_is_passed_on_whole(town):
    """One retry at a time: of eight failures at once most may not be tried again."""
    town.mesh.write("22-rule.yaml", "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                    "metadata: { name: payments, namespace: shop }\nspec:\n  host: payments\n"
                    "  trafficPolicy: { connectionPool: { http: { maxRetries: 1 } } }\n")
    routes(town, "{ retries: { attempts: 1, retryOn: 5xx }, route: [ { destination: { host: payments } } ] }",
           host="payments")
    try:
        def answers():
            done = town.frontend.run("bash", "-c", "for i in 1 2 3 4 5 6 7 8; do "
                                     f"curl -s --max-time 60 -w '\\n' '{PAYMENTS}/?status=503&delay=700' & done; wait")
            return [json.loads(line) for line in done.stdout.splitlines() if line]
        tries = []

        def limited():
            seen = answers()
            assert [one["name"] for one in seen] == ["payments"] * 8
            tries[:] = sorted(dict(map(tuple, one["headers"]))["x-envoy-attempt-count"] for one in seen)
            return tries[:4] == ["1"] * 4
        wait_for("the limit to be in force", limited)
        assert tries[-1] == "2"
    finally:
        town.mesh.remove("22-rule.yaml")


def test_no_retries_when_attempts_are_zero(town):
    routes(town, f"{{ retries: {{ attempts: 0 }}, route: [ {to('v1')} ] }}")
    assert get(town.frontend, CATALOG + "/?fail=1&key=retry-c").status == 503


def test_a_retried_post_carries_its_body_again(town):
    routes(town, f"{{ retries: {{ attempts: 2, retryOn: 5xx }}, route: [ {to('v1')} ] }}")
    answer = get(town.frontend, CATALOG + "/?fail=1&key=retry-d", method="POST", data="z" * 40000)
    assert answer.status == 200 and answer.json["body"] == 40000


def test_upstream_reset_before_headers_is_a_503(town):
    routes(town, f"{{ retries: {{ attempts: 0 }}, route: [ {to('v1')} ] }}")
    answer = get(town.frontend, CATALOG + "/?reset=head")
    assert answer.status == 503 and answer.body.startswith("upstream connect error or disconnect/reset before headers")


def test_upstream_reset_in_the_body_reaches_the_client(town):
    answer = town.frontend.run("curl", "-s", "--max-time", "60", CATALOG + "/?reset=body&size=100000", check=False)
    assert answer.returncode in (18, 56), answer.returncode


def test_mirror_is_sent_and_not_waited_for(town):
    routes(town, f"{{ route: [ {to('v1')} ], mirror: {{ host: payments }}, mirrorPercentage: {{ value: 100 }} }}")
    assert get(town.frontend, CATALOG + "/?delay=0&fail=1&key=mirror", host="catalog").status in (200, 503)
    wait_for("the mirrored request", lambda: get(
        town.frontend, PAYMENTS + "/?fail=1&key=mirror").status == 200)


def test_cors_preflight_is_answered(town):
    routes(town, "{ corsPolicy: { allowOrigins: [ { exact: 'https://shop.example' } ], allowMethods: [ GET, POST ], "
           f"allowHeaders: [ x-one ], maxAge: 24h, allowCredentials: true }}, route: [ {to('v1')} ] }}")
    answer = get(town.frontend, CATALOG, method="OPTIONS", headers={
        "Origin": "https://shop.example", "Access-Control-Request-Method": "POST"})
    assert answer.status == 200 and answer.header("access-control-allow-origin") == "https://shop.example", answer
    assert answer.header("access-control-max-age") == "86400" and answer.name is None
    answer = get(town.frontend, CATALOG, headers={"Origin": "https://shop.example"})
    assert answer.name == "catalog-1" and answer.header("access-control-allow-origin") == "https://shop.example"


def test_source_labels_choose_the_route(town):
    routes(town, "{ match: [ { sourceLabels: { app: payments } } ], " f"route: [ {to('v2')} ] }}",
           f"{{ route: [ {to('v1')} ] }}")
    assert get(town.payments, CATALOG).name == "catalog-2"
    assert get(town.frontend, CATALOG).name == "catalog-1"


def test_unknown_subset_is_a_503(town):
    routes(town, "{ retries: { attempts: 0 }, route: [ { destination: { host: catalog, subset: nowhere } } ] }")
    assert get(town.frontend, CATALOG).status == 503


def test_a_port_without_a_protocol_is_sniffed_when_a_rule_names_it(town):
    routes(town, "{ match: [ { uri: { exact: /mesh } } ], directResponse: { status: 299, body: { string: routed } } }",
           "{ route: [ { destination: { host: plain } } ] }", host="plain")
    try:
        # a client that is silent for 200 ms waits for its server
        wait_for("a client that was quick enough to be routed", lambda: get(town.frontend, "http://10.60.0.50/mesh").status == 299)
        assert get(town.frontend, "http://10.60.0.50/").name == "payments"
    finally:
        town.mesh.remove("21-plain.yaml")
        town.mesh.settle()


def test_routes_change_under_load_without_a_failure(town):
    routes(town, f"{{ route: [ {to('v1')} ] }}")
    process = web.load_begin(town.frontend, "10.60.0.20", seconds=300, connections=4)
    for i in range(12):
        routes(town, f"{{ route: [ {to('v2' if i % 2 == 0 else 'v1')} ] }}")
        time.sleep(0.2)
    seen = web.load_end(process)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
    assert set(seen["server"]) == {"catalog-1", "catalog-2"}


# --- what an operator sees ---

def test_requests_are_counted_with_istio_labels(town):
    agent = town.agent("node-a")
    before = agent.metric("istio_requests_total", destination_service="payments.shop.svc.cluster.local",
                          response_code="418")
    assert get(town.frontend, PAYMENTS + "/?status=418").status == 418
    wait_for("the request to be counted", lambda: agent.metric(
        "istio_requests_total", reporter="source", source_workload="frontend",
        destination_service="payments.shop.svc.cluster.local", response_code="418", request_protocol="http",
        response_flags="-", connection_security_policy="unknown") +
        agent.metric("istio_requests_total", reporter="source",
                     destination_service="payments.shop.svc.cluster.local", response_code="418",
                     connection_security_policy="mutual_tls") >= before + 1)
