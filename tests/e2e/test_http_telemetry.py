# SPDX-License-Identifier: Apache-2.0
"""What is told of requests: access logs, metrics with tags of one's own, traces."""
import json
import os

import pytest

from lib import web
from lib.net import Net
from lib.shell import wait_for
from lib.web import get

PAYMENTS = "http://10.60.0.30"


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("httptele")) as net:
        logs = os.path.join(net.directory, "logs")
        os.makedirs(logs)
        made = web.build(net, mesh_yaml=(
            "trustDomain: cluster.local\nextensionProviders:\n"
            f"- {{ name: text, envoyFileAccessLog: {{ path: {logs}/text.log }} }}\n"
            f"- {{ name: json, envoyFileAccessLog: {{ path: {logs}/json.log, "
            "logFormat: { labels: { code: '%RESPONSE_CODE%', path: '%REQ(:PATH)%', agent: '%REQ(USER-AGENT)%', "
            "missing: '%REQ(X-NOT-THERE)%', who: 'req %REQ(X-REQUEST-ID)%' } } } }\n"))
        made.logs = logs
        made.mesh.write("40-telemetry.yaml", (
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: shop, namespace: shop }\nspec:\n"
            "  accessLogging:\n"
            "  - { match: { mode: CLIENT }, providers: [ { name: json } ], filter: { expression: 'response.code >= 400' } }\n"
            "  - { match: { mode: CLIENT }, providers: [ { name: text } ] }\n"
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


def test_promtool_finds_nothing_wrong(town):
    text = town.node_a.run("curl", "-sf", "http://127.0.0.1:15020/metrics").stdout
    path = os.path.join(town.net.directory, "metrics.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    done = town.node_a.run("bash", "-c", f"promtool check metrics <{path}", check=False)
    complaints = [line for line in (done.stdout + done.stderr).splitlines()
                  if "istio_" not in line]  # their names are Istio's
    assert not complaints, complaints
