# SPDX-License-Identifier: Apache-2.0
"""What an operator sees: metrics that promtool accepts, meshctl's answers, and explain agreeing with what happens."""
import json

import pytest

from lib.shell import run, wait_for
from lib.traffic import call


def test_metrics_are_clean_and_count_what_happened(town):
    agent = town.agent("node-a")
    labels = {"reporter": "source", "source_workload": "frontend", "destination_workload": "payments",
              "destination_service": "payments.shop.svc.cluster.local", "connection_security_policy": "mutual_tls"}
    before = agent.metric("istio_tcp_connections_opened_total", **labels)
    sent = agent.metric("istio_tcp_sent_bytes_total", **labels)
    for _ in range(5):
        assert call(town.frontend, "10.60.0.30", 7000, send="x" * 1000)["ok"]
    wait_for("the connections to be counted",
             lambda: agent.metric("istio_tcp_connections_closed_total", **labels) >= before + 5)
    assert agent.metric("istio_tcp_connections_opened_total", **labels) == before + 5
    assert agent.metric("istio_tcp_sent_bytes_total", **labels) >= sent + 5000
    text = agent.node.run("curl", "-sf", "http://127.0.0.1:15020/metrics").stdout
    run("promtool", "check", "metrics", stdin=text)
    server = town.agent("node-b")
    assert server.metric("istio_tcp_connections_opened_total", reporter="destination", source_workload="frontend",
                         destination_workload="payments") >= 5


def test_health_and_readiness(town):
    for path in ("/healthz", "/readyz"):
        town.node_a.run("curl", "-sf", f"http://127.0.0.1:15020{path}")
    assert town.node_a.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                           "http://127.0.0.1:15020/v1/status").stdout == "404", "the admin API is on the socket alone"


COMMANDS = [
    ("status",), ("get", "workloads"), ("get", "services"), ("get", "workloads", "-o", "wide"),
    ("get", "Service", "payments", "-n", "shop", "-o", "yaml"), ("describe", "service", "shop/payments"),
    ("flows",), ("authn", "tls-check"), ("proxy-config", "all"), ("proxy-config", "listeners"),
    ("proxy-config", "clusters"), ("proxy-config", "endpoints"), ("proxy-config", "secrets"), ("cert", "list"),
    ("config", "history"), ("log",), ("metrics",), ("precheck",), ("version",), ("completion", "bash"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_meshctl_answers(town, words):
    done = town.agent("node-a").meshctl(*words)
    assert done.stdout.strip(), words
    assert "\033[" not in done.stdout, "colour only on a terminal"


@pytest.mark.parametrize("words", [("status",), ("get", "workloads"), ("get", "services"), ("flows",), ("cert", "list"),
                                   ("config", "history"), ("proxy-config", "endpoints"), ("version",), ("precheck",),
                                   ("explain", "shop/frontend", "payments.shop:7000")], ids=" ".join)
def test_json_everywhere(town, words):
    out = town.agent("node-a").meshctl(*words, "-o", "json", check=False).stdout
    for line in out.splitlines() if words == ("flows",) else [out]:
        json.loads(line)


def test_exit_codes(town):
    agent = town.agent("node-a")
    assert agent.meshctl("status").returncode == 0
    assert agent.meshctl("statsu", check=False).returncode == 2
    assert "status" in agent.meshctl("statsu", check=False).stderr
    assert run(agent.meshctl("version").args[0], "--socket", "/nonexistent", "status", check=False).returncode == 3


def policy(app, account, port):
    return ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
            f"metadata: {{ name: explained-{app}, namespace: shop }}\n"
            f"spec: {{ selector: {{ matchLabels: {{ app: {app} }} }}, action: ALLOW, rules: [ {{ from: [ {{ source: "
            f"{{ principals: [ \"*/sa/{account}\" ] }} }} ], to: [ {{ operation: {{ ports: [ \"{port}\" ] }} }} ] }} ] }}\n")


def test_explain_agrees_with_what_happens(town):
    """Every pair of pods and destinations, by meshctl and by a real connection."""
    town.mesh.write("50-explain.yaml", policy("payments", "frontend", 7000) + "---\n" + policy("catalog", "payments", 8080))
    town.mesh.settle()
    wrong = []
    try:
        for pod, node in (("frontend", "node-a"), ("catalog-1", "node-a"), ("catalog-2", "node-b"), ("payments", "node-b")):
            for host, vip, port in (("payments.shop", "10.60.0.30", 7000), ("local.shop", "10.60.0.40", 80)):
                place = town.net.pods[pod]
                allowed = call(place, vip, port)["ok"]
                done = town.agent(node).meshctl("explain", f"shop/{pod}", f"{host}:{port}", check=False)
                said = done.returncode == 0
                if said != allowed:
                    wrong.append((pod, host, "works" if allowed else "is refused", done.stdout))
                if not allowed and "explained-" not in done.stdout:
                    wrong.append((pod, host, "the policy is not named", done.stdout))
        assert not wrong, "\n".join(map(str, wrong))
    finally:
        town.mesh.remove("50-explain.yaml")
        town.mesh.settle()


def test_flows_can_be_followed_and_filtered(town):
    agent = town.agent("node-a")
    from lib.shell import BUILD
    import os
    follow = town.node_a.spawn(os.path.join(BUILD, "meshctl"), "--socket", agent.socket, "flows", "--follow", "-o", "json",
                               name="follow")
    call(town.frontend, "10.60.0.40", 80)
    wait_for("the flow to be shown", lambda: "local.shop.svc.cluster.local" in follow.output())
    follow.stop()


def test_certificates_are_listed_and_rotate_without_a_broken_connection(town):
    from lib.traffic import held, hold
    agent = town.agent("node-a")
    going = hold(town.frontend, "10.60.0.30", 7000, 3)
    before = {row["serial"] for row in json.loads(agent.meshctl("cert", "list", "-o", "json").stdout)["items"]}
    agent.meshctl("cert", "rotate", "--all")
    wait_for("new certificates", lambda: {
        row["serial"] for row in json.loads(agent.meshctl("cert", "list", "-o", "json").stdout)["items"]} - before)
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    assert held(going)


def test_log_level_can_be_changed(town):
    agent = town.agent("node-a")
    agent.meshctl("log", "debug")
    assert "debug" in agent.meshctl("log").stdout
    agent.meshctl("log", "info")
