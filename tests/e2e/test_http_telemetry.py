# SPDX-License-Identifier: Apache-2.0
"""What is told of requests: access logs, metrics with tags of one's own, traces."""
import json
import os

import pytest

from lib import rpc, traffic, web
from lib.mesh import service, workload
from lib.net import Net
from lib.shell import wait_for
from lib.traffic import PYTHON
from lib.web import get

PAYMENTS = "http://10.60.0.30"


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("httptele")) as net:
        logs = os.path.join(net.directory, "logs")
        os.makedirs(logs)
        mesh_yaml = (
            "trustDomain: cluster.local\nextensionProviders:\n"
            f"- {{ name: text, envoyFileAccessLog: {{ path: {logs}/text.log }} }}\n"
            f"- {{ name: json, envoyFileAccessLog: {{ path: {logs}/json.log, "
            "logFormat: { labels: { code: '%RESPONSE_CODE%', path: '%REQ(:PATH)%', agent: '%REQ(USER-AGENT)%', "
            "missing: '%REQ(X-NOT-THERE)%', who: 'req %REQ(X-REQUEST-ID)%' } } } }\n"
            f"- {{ name: more, envoyFileAccessLog: {{ path: {logs}/more.log, logFormat: {{ text: \"%REQ_WITHOUT_QUERY(:PATH)% "
            "%CEL(has(request.headers['x-tenant']) ? 'paid' : response.code)% %ACCESS_LOG_TYPE% "
            "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_URI_SAN% %RESPONSE_FLAGS_LONG%\\n\" } } }\n")
        made = web.build(net, mesh_yaml=mesh_yaml)
        made.mesh_yaml, made.logs = mesh_yaml, logs
        made.mesh.write("40-telemetry.yaml", (
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: shop, namespace: shop }\nspec:\n"
            "  accessLogging:\n"
            "  - { match: { mode: CLIENT }, providers: [ { name: json } ], filter: { expression: 'response.code >= 400' } }\n"
            "  - { match: { mode: CLIENT }, providers: [ { name: text }, { name: more } ] }\n"
            "  metrics:\n  - providers: [ { name: prometheus } ]\n    overrides:\n"
            "    - match: { metric: REQUEST_COUNT, mode: CLIENT_AND_SERVER }\n"
            "      tagOverrides: { tenant: { operation: UPSERT, value: \"request.headers['x-tenant']\" }, "
            "request_protocol: { operation: REMOVE } }\n"))
        made.mesh.settle()
        yield made


def lines(town, name):
    path = os.path.join(town.logs, name)
    return open(path, encoding="utf-8").read().splitlines() if os.path.exists(path) else []


def test_text_log_has_istios_format(town):
    assert get(town.frontend, PAYMENTS + "/logged?a=1", headers={"User-Agent": 'a "quoted" agent'}).status == 200
    line = wait_for("the line", lambda: [line for line in lines(town, "text.log") if "/logged?a=1" in line])[0]
    assert ' "GET /logged?a=1 HTTP/1.1" 200 - via_upstream - "-" 0 ' in line, line
    assert '"a \\"quoted\\" agent"' in line
    assert "outbound|80||payments.shop.svc.cluster.local" in line
    assert f"{town.payments.ip4}:8080" in line or f"[{town.payments.ip6}]:8080" in line


def test_json_log_is_filtered_and_typed(town):
    get(town.frontend, PAYMENTS + "/fine")
    get(town.frontend, PAYMENTS + "/bad?status=404")
    row = wait_for("the line", lambda: [json.loads(line) for line in lines(town, "json.log") if "/bad" in line])[0]
    assert row["code"] == 404 and row["missing"] is None and row["who"].startswith("req ")
    assert not [line for line in lines(town, "json.log") if "/fine" in line]


def test_operators_of_ones_own_log(town):
    get(town.frontend, PAYMENTS + "/own?secret=1", headers={"X-Tenant": "gold"})
    get(town.frontend, PAYMENTS + "/own?secret=2")
    seen = wait_for("both lines", lambda: (found := [line for line in lines(town, "more.log") if line.startswith("/own ")])
                    and len(found) == 2 and found)
    tail = f" DownstreamEnd {town.frontend.ip4} spiffe://cluster.local/ns/shop/sa/frontend -"
    assert sorted(seen) == ["/own 200" + tail, "/own paid" + tail]  # each worker has its own batch of lines


def test_mistakes_are_told_with_path_and_line_and_change_nothing(town):
    """The last good version stays in force."""
    def telemetry(expression):
        return ("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: typo, namespace: outside }\nspec:\n"
                f"  accessLogging:\n  - filter:\n      expression: {expression}\n")

    def problem(part):
        return [p for p in town.agent("node-a").api("/v1/status")["config"]["problems"] if part in p["text"]]
    try:
        town.mesh.write("45-typo.yaml", telemetry("response.code >="))
        found = wait_for("the rejection", lambda: problem("spec.accessLogging[0].filter.expression"))[0]
        assert found["origin"] == "45-typo.yaml:7" and "can't be read" in found["text"] and not found["warning"], found
        town.mesh.write("45-typo.yaml", telemetry("respons.code >= 400"))
        assert wait_for("the warning", lambda: problem("it is never true"))[0]["warning"]
        town.mesh.write("45-typo.yaml", telemetry("response.code >= 400"))
        wait_for("no problem", lambda: not problem(""))
    finally:
        town.mesh.remove("45-typo.yaml")
        town.mesh.settle()


def test_the_servers_side_is_told_of_when_asked_for_by_name(town):
    """payments has no rules on requests: its connections come to the helper for this alone."""
    town.mesh.write("44-server.yaml", (
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: payments, namespace: shop }\nspec:\n"
        "  selector: { matchLabels: { app: payments } }\n  accessLogging:\n"
        "  - { match: { mode: SERVER }, providers: [ { name: more } ], filter: { expression: \"has(connection."
        "uri_san_peer_certificate) && request.url_path == '/served'\" } }\n"))
    town.mesh.settle()
    try:
        def served():
            assert get(town.frontend, PAYMENTS + "/served?x=1").status == 200
            return [line for line in lines(town, "more.log") if line.startswith("/served ") and "/sa/payments " in line]
        wait_for("the server's line", served)
        wait_for("its count", lambda: town.agent("node-b").metric(
            "istio_requests_total", reporter="destination", source_workload="frontend", destination_workload="payments",
            source_principal="spiffe://cluster.local/ns/shop/sa/frontend", connection_security_policy="mutual_tls") >= 1)
    finally:
        town.mesh.remove("44-server.yaml")
        town.mesh.settle()


def test_metrics_may_be_switched_off(town):
    agent = town.agent("node-a")
    off = ("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: quiet, namespace: shop }\nspec:\n"
           "  selector: { matchLabels: { app: frontend } }\n  metrics:\n  - overrides:\n"
           "    - { match: { metric: REQUEST_SIZE, mode: CLIENT }, disabled: true }\n")
    town.mesh.write("46-off.yaml", off)
    town.mesh.settle()
    try:
        def counts():
            return [agent.metric(name, reporter="source", destination_service="payments.shop.svc.cluster.local")
                    for name in ("istio_requests_total", "istio_response_bytes_count", "istio_request_bytes_count")]
        before = counts()
        for _ in range(3):
            get(town.frontend, PAYMENTS + "/off")
        wait_for("what is counted", lambda: [a - b for a, b in zip(counts(), before)] == [3, 3, 0])
    finally:
        town.mesh.remove("46-off.yaml")
        town.mesh.settle()


def test_a_log_that_is_moved_away_is_opened_anew(town):
    os.rename(os.path.join(town.logs, "text.log"), os.path.join(town.logs, "text.log.1"))

    def written():
        get(town.frontend, PAYMENTS + "/rotated")
        return [line for line in lines(town, "text.log") if "/rotated" in line]
    wait_for("a line in the new file", written)


def test_tags_of_ones_own(town):
    agent = town.agent("node-a")
    for _ in range(3):
        get(town.frontend, PAYMENTS + "/", headers={"X-Tenant": "gold"})
    wait_for("the tag", lambda: agent.metric("istio_requests_total", tenant="gold") >= 3)
    keys = [key for key in agent.metrics() if key.startswith("istio_requests_total{") and 'tenant="gold"' in key]
    assert keys and all("request_protocol" not in key for key in keys)
    durations = [key for key in agent.metrics() if key.startswith("istio_request_duration_milliseconds_count")]
    assert durations and all("tenant=" not in key and 'request_protocol="http"' in key for key in durations)


def test_labels_say_who_and_which_way(town):
    agent = town.agent("node-a")
    get(town.frontend, PAYMENTS + "/", headers={"X-Tenant": "labels"})
    wait_for("the labels", lambda: agent.metric(
        "istio_requests_total", reporter="source", source_workload="frontend", source_workload_namespace="shop",
        source_principal="spiffe://cluster.local/ns/shop/sa/frontend", source_canonical_service="frontend",
        destination_workload="payments", destination_principal="spiffe://cluster.local/ns/shop/sa/payments",
        destination_service="payments.shop.svc.cluster.local", destination_service_name="payments",
        destination_service_namespace="shop", response_code="200", response_flags="-", tenant="labels",
        connection_security_policy="mutual_tls") >= 1)


PACED = """
import http.client, time
connection = http.client.HTTPConnection("10.60.0.30", 80, timeout=90)
while True:
    connection.request("GET", "/")
    assert connection.getresponse().read()
    time.sleep(0.02)
"""


def test_labels_that_change_are_counted_under_their_new_names(town):
    """The pod keeps its network namespace, and its connections."""
    agent = town.agent("node-a")
    load = town.frontend.spawn(PYTHON, "-c", PACED, name="paced")
    wait_for("requests by the old name", lambda: agent.metric("istio_requests_total", source_workload="frontend",
                                                              source_version="v1") > 0)
    old = web.base_config(town.net)
    one = workload(town.net.pods["frontend"], "shop", "frontend")
    assert one in old
    try:
        town.mesh.write("00-workloads.yaml", old.replace(
            one, workload(town.net.pods["frontend"], "shop", "frontend", version="v7")))
        wait_for("requests by the new name", lambda: agent.metric(
            "istio_requests_total", reporter="source", source_version="v7", source_canonical_revision="v7") > 5)
        assert load.alive(), load.output()
    finally:
        load.stop()
        town.mesh.write("00-workloads.yaml", old)
        town.mesh.settle()


MANY = """
import http.client, sys
connection = http.client.HTTPConnection("10.60.0.30", 80, timeout=90)
for i in range(int(sys.argv[1])):
    connection.request("GET", "/", headers={"X-Tenant": f"many-{i}"})
    connection.getresponse().read()
"""


def test_thousands_of_label_sets_lose_no_request(town):
    """More than a worker has places for: what finds none is counted together."""
    agent, count = town.agent("node-a"), 5000
    before = agent.metric("istio_requests_total")
    town.frontend.run(PYTHON, "-c", MANY, count)
    wait_for("all of them", lambda: agent.metric("istio_requests_total") >= before + count)
    metrics = agent.metrics()
    named = [key for key in metrics if key.startswith("istio_requests_total{") and 'tenant="many-' in key]
    other = sum(value for key, value in metrics.items()
                if key.startswith("istio_requests_total{") and 'reporter="other"' in key)
    assert 1000 < len(named) < count and all(metrics[key] == 1 for key in named)
    assert len(named) + other == count
    assert agent.metric("istio_requests_total") == before + count


def test_promtool_finds_nothing_wrong(town):
    text = town.node_a.run("curl", "-sf", "http://127.0.0.1:15020/metrics").stdout
    path = os.path.join(town.net.directory, "metrics.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    done = town.node_a.run("bash", "-c", f"promtool check metrics <{path}", check=False)
    complaints = [line for line in (done.stdout + done.stderr).splitlines()
                  if "istio_" not in line]  # their names are Istio's
    assert not complaints, complaints


# --- connections that are no HTTP: through a tunnel as the kernel balanced them, and by a TLS route ---

ECHO = """apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: payments, namespace: shop }
spec:
  selector: { matchLabels: { app: payments } }
  accessLogging: [ { match: { mode: SERVER }, providers: [ { name: text } ] } ]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: named, namespace: shop }
spec:
  hosts: [ named.example ]
  tls: [ { match: [ { port: 443, sniHosts: [ named.example ] } ], route: [ { destination: { host: echo, port: { number: 7443 } } } ] } ]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: named, namespace: shop }
spec:
  hosts: [ named.example ]
  addresses: [ 10.60.0.61 ]
  ports: [ { number: 443, name: tls, protocol: TLS } ]
  resolution: NONE
"""


@pytest.fixture(scope="module")
def echo(town):
    servers = [traffic.serve(town.payments, port) for port in (7000, 7443)]
    town.mesh.write("47-echo.yaml", ECHO + "---\n" + service(
        "echo", "shop", [("tcp", 7000, 7000, "TCP"), ("tcp-more", 7443, 7443, "TCP"), ("tcp-gone", 7001, 7001, "TCP")],
        ["10.60.0.60", "fd60::60"], app="payments"))
    town.mesh.settle()
    yield town
    town.mesh.remove("47-echo.yaml")
    town.mesh.settle()
    for process in servers:
        process.stop()


def connection_lines(town, *parts):
    return [line for line in lines(town, "text.log") if '"- - -" 0 ' in line and all(part in line for part in parts)]


@pytest.mark.parametrize("address, server", [("10.60.0.60", "ip4"), ("fd60::60", "ip6")])
def test_connections_have_lines_on_both_sides(echo, address, server):
    host = getattr(echo.payments, server)
    at, asked = (f"[{host}]:7000", f"[{address}]:7000") if ":" in host else (f"{host}:7000", f"{address}:7000")
    answer = traffic.call(echo.frontend, address, 7000)
    assert answer["ok"], answer
    one = wait_for("the client's line", lambda: connection_lines(echo, f" {asked} ", f'"{at}"'))[0]
    assert " outbound|7000||echo.shop.svc.cluster.local " in one, one
    other = wait_for("the server's line", lambda: connection_lines(echo, " inbound|7000|| ", f'"{at}" '))[0]
    counts = [line.split('"- - -" 0 - - - "-" ')[1].split()[:2] for line in (one, other)]
    assert counts[0] == counts[1] and int(counts[0][0]) > 0 and int(counts[0][1]) > 0, (one, other)


def test_the_name_of_a_tls_route_is_in_the_line(echo):
    get(echo.frontend, "https://named.example/", "-k", "--resolve", "named.example:443:10.60.0.61")  # the server only echoes
    line = wait_for("the line", lambda: connection_lines(echo, " named.example -", " 10.60.0.61:443 "))[0]
    assert " outbound|7443||echo.shop.svc.cluster.local " in line and f'"{echo.payments.ip4}:7443"' in line, line


def test_connections_that_fail_have_flags(echo):
    assert not traffic.call(echo.frontend, "10.60.0.60", 7001)["ok"]
    line = wait_for("the line", lambda: connection_lines(echo, " 10.60.0.60:7001 "))[0]
    assert '"- - -" 0 UF - - ' in line, line


@pytest.fixture(scope="module")
def near(town):
    """catalog-1 is on frontend's node: the kernel alone carries what is no HTTP between them."""
    servers = [traffic.serve(town.net.pods["catalog-1"], 7000), traffic.serve(town.stranger, 7000)]
    town.mesh.write("48-near.yaml", service("near", "shop", [("tcp", 7000, 7000, "TCP"), ("tcp-gone", 7001, 7001, "TCP")],
                                            ["10.60.0.62", "fd60::62"], app="catalog", extra="")
                    .replace("selector: { app: catalog }", "selector: { app: catalog, version: v1 }"))
    town.mesh.settle()
    yield town
    town.mesh.remove("48-near.yaml")
    town.mesh.settle()
    for process in servers:
        process.stop()


def test_connections_that_the_kernel_carries_have_lines_too(near):
    pod = near.net.pods["catalog-1"]
    assert traffic.call(near.frontend, "10.60.0.62", 7000)["ok"]
    line = wait_for("the line", lambda: connection_lines(near, " 10.60.0.62:7000 "))[0]
    assert f' "{pod.ip4}:7000" outbound|7000||near.shop.svc.cluster.local ' in line, line
    assert [int(n) > 0 for n in line.split('"- - -" 0 - - - "-" ')[1].split()[:2]] == [True, True], line
    assert f" {near.frontend.ip4}:" in line
    assert len(connection_lines(near, " 10.60.0.62:7000 ")) == 1

    assert traffic.call(near.frontend, near.stranger.ip4, 7000)["ok"]  # outside of the mesh
    line = wait_for("the line", lambda: connection_lines(near, f" {near.stranger.ip4}:7000 "))[0]
    assert " PassthroughCluster " in line, line

    assert not traffic.call(near.frontend, "10.60.0.62", 7001)["ok"]
    line = wait_for("the line", lambda: connection_lines(near, " 10.60.0.62:7001 "))[0]
    assert '"- - -" 0 UF - - "upstream_connect" 0 0 ' in line, line


def test_the_server_on_the_same_node_has_a_line_when_asked_for_by_name(near):
    near.mesh.write("49-near.yaml", (
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: near, namespace: shop }\nspec:\n"
        "  selector: { matchLabels: { app: catalog } }\n"
        "  accessLogging: [ { match: { mode: SERVER }, providers: [ { name: text } ] } ]\n"))
    near.mesh.settle()
    try:
        def served():
            assert traffic.call(near.frontend, "10.60.0.62", 7000)["ok"]
            return connection_lines(near, " inbound|7000|| ", f' "{near.net.pods["catalog-1"].ip4}:7000" ')
        assert f" {near.frontend.ip4}:" in wait_for("the server's line", served)[0]
    finally:
        near.mesh.remove("49-near.yaml")
        near.mesh.settle()


def test_what_strangers_call_has_a_line_of_the_server(echo):
    assert traffic.call(echo.stranger, echo.payments.ip4, 7000)["ok"]
    line = wait_for("the line", lambda: connection_lines(echo, f" {echo.stranger.ip4}:", " inbound|7000|| "))[0]
    assert f' "{echo.payments.ip4}:7000" ' in line, line
    deny = ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: nobody, namespace: shop }\nspec:\n"
            "  selector: { matchLabels: { app: payments } }\n  action: DENY\n  rules: [ { to: [ { operation: { ports: ['7443'] } } ] } ]\n")
    echo.mesh.write("49-deny.yaml", deny)
    echo.mesh.settle()
    try:
        assert not traffic.call(echo.stranger, echo.payments.ip4, 7443)["ok"]
        line = wait_for("the refusal", lambda: connection_lines(echo, " inbound|7443|| ", " rbac_access_denied_matched_policy["))[0]
        assert "nobody" in line, line
    finally:
        echo.mesh.remove("49-deny.yaml")
        echo.mesh.settle()


def test_requests_on_the_servers_side_say_where_the_application_is(echo):
    def served():
        assert get(echo.frontend, PAYMENTS + "/both-sides").status == 200
        return [line for line in lines(echo, "text.log") if '"GET /both-sides HTTP/1.1" 200' in line and " inbound|8080|| " in line]
    line = wait_for("the server's line", served)[0]
    assert f'"{echo.payments.ip4}:8080"' in line and line.endswith(" - default"), line


def test_filters_of_requests_take_no_connection(echo):
    """json.log is for requests above 400."""
    assert traffic.call(echo.frontend, "10.60.0.60", 7000)["ok"]
    wait_for("the line elsewhere", lambda: connection_lines(echo, " 10.60.0.60:7000 "))
    assert all(json.loads(line)["code"] >= 400 for line in lines(echo, "json.log"))


def test_lines_go_to_a_collector_of_opentelemetry(town):
    """Istio's envoyOtelAls: a record a line, with the format as its body and the labels as attributes."""
    path, agent = os.path.join(town.net.directory, "records"), town.agent("node-a")
    os.makedirs(path)
    process = rpc.serve(town.node_a, 4316, spans=path)
    town.mesh.write("10-mesh.yaml", town.mesh_yaml + (
        f"- {{ name: records, envoyOtelAls: {{ service: {town.node_a.ip4}, port: 4316, "
        "logFormat: { labels: { code: '%RESPONSE_CODE%', called: '%REQ(:PATH)%' } } } }\n"))
    town.mesh.write("44-records.yaml", (
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: records, namespace: shop }\nspec:\n"
        "  selector: { matchLabels: { app: frontend } }\n"
        "  accessLogging: [ { match: { mode: CLIENT }, providers: [ { name: records } ] } ]\n"))
    town.mesh.settle()
    try:
        def recorded():
            get(town.frontend, PAYMENTS + "/recorded?status=404")
            return b"/recorded?status=404" in b"".join(received(path))
        wait_for("the record", recorded)
        body = b"".join(received(path))
        assert b'"GET /recorded?status=404 HTTP/1.1" 404 ' in body and b"called" in body and b"k8s.pod.name" in body
        wait_for("its count", lambda: agent.metric("weft_log_records_exported_total") >= 1)
        assert agent.metric("weft_log_records_dropped_total") == 0
        process.stop()

        def dropped():
            get(town.frontend, PAYMENTS + "/lost")
            return agent.metric("weft_log_records_dropped_total") >= 1
        wait_for("what no collector takes to be counted", dropped)
        assert get(town.frontend, PAYMENTS + "/").status == 200
    finally:
        town.mesh.remove("44-records.yaml")
        town.mesh.write("10-mesh.yaml", town.mesh_yaml)
        town.mesh.settle()
        process.stop()


# --- traces: the collector is a program on the node, which the agent calls ---

def traced(town, name, provider, port):
    """A collector on node-a and configuration that sends it every trace."""
    path = os.path.join(town.net.directory, f"spans-{name}")
    os.makedirs(path, exist_ok=True)
    town.node_a.spawn(web.PYTHON, os.path.join(web.HERE, "collector.py"), port, path, name=f"collector-{name}").wait_output("listening")
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\nextensionProviders:\n" + provider)
    town.mesh.write("41-tracing.yaml", (
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: tracing, namespace: istio-system }\nspec:\n"
        f"  tracing: [ {{ providers: [ {{ name: {name} }} ], randomSamplingPercentage: 100, "
        "customTags: { cell: { literal: { value: a } }, tenant: { header: { name: x-tenant, defaultValue: none } }, "
        "what: { formatter: { value: '%REQ(:METHOD)% as %RESPONSE_CODE%' } } } } ]\n"))
    town.mesh.settle()
    return path


def received(path):
    out = []
    for entry in sorted(os.listdir(path)):
        if not entry.endswith(".part"):
            with open(os.path.join(path, entry), "rb") as file:
                out.append(file.read())
    return out


def test_traces_to_zipkin(town):
    path = traced(town, "zip", f"- {{ name: zip, zipkin: {{ service: {town.node_a.ip4}, port: 9411 }} }}\n", 9411)
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = get(town.frontend, PAYMENTS + "/traced", headers={
        "traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Tenant": "gold"})
    assert answer.status == 200
    seen = answer.seen("traceparent")
    assert seen.startswith(f"00-{trace}-") and not seen.startswith(f"00-{trace}-b7ad6b7169203331") and seen.endswith("-01")

    def client():
        """Its span, when that which the application saw is there: the same, or the server's behind it."""
        spans = [span for body in received(path) for span in json.loads(body) if span["traceId"] == trace]
        return seen.split("-")[2] in [span["id"] for span in spans] and [s for s in spans if s["kind"] == "CLIENT"]
    one = wait_for("the span", client)[0]
    assert one["parentId"] == "b7ad6b7169203331"
    assert one["localEndpoint"]["serviceName"] == "frontend.shop"
    assert one["tags"]["cell"] == "a" and one["tags"]["tenant"] == "gold" and one["tags"]["what"] == "GET as 200"
    assert one["tags"]["http.response.status_code"] == "200" and one["tags"]["url.path"] == "/traced"
    assert one["duration"] > 0


def test_traces_by_b3_are_continued(town):
    trace = "463ac35c9f6413ad48485a3953bb6124"
    answer = get(town.frontend, PAYMENTS + "/", headers={
        "X-B3-TraceId": trace, "X-B3-SpanId": "a2fb4a1d1a96d312", "X-B3-Sampled": "0"})
    assert answer.seen("x-b3-traceid") == trace and answer.seen("x-b3-sampled") == "0"
    assert answer.seen("traceparent").startswith(f"00-{trace}-") and answer.seen("traceparent").endswith("-00")


def test_traces_by_otlp_over_http(town):
    path = traced(town, "otlp", f"- {{ name: otlp, opentelemetry: {{ service: {town.node_a.ip4}, port: 4318, "
                  "http: { path: /v1/traces } } }\n", 4318)
    answer = get(town.frontend, PAYMENTS + "/otlp")
    trace = bytes.fromhex(answer.seen("traceparent").split("-")[1])
    wait_for("the span", lambda: [body for body in received(path) if trace in body and b"frontend.shop" in body])
    wait_for("the counter", lambda: town.agent("node-a").metric("weft_spans_exported_total") > 0)


def test_a_collector_that_is_away_costs_spans_alone(town):
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\nextensionProviders:\n"
                    f"- {{ name: otlp, opentelemetry: {{ service: {town.node_a.ip4}, port: 4999 }} }}\n")
    town.mesh.settle()
    assert all(get(town.frontend, PAYMENTS + "/").status == 200 for _ in range(5))
    wait_for("the drops", lambda: town.agent("node-a").metric("weft_spans_dropped_total") >= 5)
