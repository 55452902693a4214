# SPDX-License-Identifier: Apache-2.0
"""Open connections that the kernel passed directly, when a changed policy forbids them: they end; nothing else does."""
import pytest

from lib import web
from lib.net import Net
from lib.shell import wait_for
from lib.town import Town, base_config, pods, servers
from lib.traffic import call, held, hold

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec: { mtls: { mode: STRICT } }
"""


def deny(app, rule):
    return ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: later, namespace: shop }\n"
            f"spec:\n  selector: {{ matchLabels: {{ app: {app} }} }}\n  action: DENY\n  rules: [ {rule} ]\n")


def deny_caller(app, account):
    return deny(app, f'{{ from: [ {{ source: {{ principals: [ "*/sa/{account}" ] }} }} ] }}')


@pytest.fixture
def policy(town):
    """Writes a policy file, waits until it is in force, and removes it afterwards."""
    def write(text):
        town.mesh.write("50-policy.yaml", text)
        town.mesh.settle()
    yield write
    town.mesh.write("50-policy.yaml", "")
    town.mesh.settle()


def holds_to_payments(place, town, seconds, port=7000):
    return [hold(place, address, port, seconds, family=family) for address, family in
            ((town.payments.ip4, "any"), (town.payments.ip4, "mapped"), (town.payments.ip6, "any"))]


def cuts(agent, reason):
    return agent.metric("weft_connections_cut_total", reason=reason)


def test_denied_caller_of_the_same_node_is_cut(town, policy):
    agent = town.agent("node-b")
    before = cuts(agent, "policy_deny")
    denied = holds_to_payments(town.catalog_2, town, 600)
    others = holds_to_payments(town.stranger, town, 6)
    policy(deny_caller("payments", "catalog"))
    for process in denied:
        assert not held(process)
    assert cuts(agent, "policy_deny") == before + 3
    rows = wait_for("the flows", lambda: agent.flows(event="refused", reason="policy_deny", source_workload="shop/catalog-2",
                                                     destination_workload="shop/payments"))
    assert rows[-1]["rule"].endswith("later"), rows[-1]
    for process in others:
        assert held(process), "connections that the change does not forbid live on"


def test_strict_cuts_plaintext_and_leaves_attested(town, policy):
    agent = town.agent("node-b")
    before = cuts(agent, "mtls_required")
    plain = holds_to_payments(town.stranger, town, 600)
    attested = holds_to_payments(town.catalog_2, town, 6)
    probe = hold(town.node_b, town.payments.ip4, 7000, 6)
    policy(STRICT)
    for process in plain:
        assert not held(process)
    assert cuts(agent, "mtls_required") == before + 3
    assert held(probe) and all(held(process) for process in attested)


def test_rules_on_requests_end_connections_that_would_go_around_them(town, policy):
    agent = town.agent("node-b")
    before = cuts(agent, "http_rules")
    undeclared = holds_to_payments(town.catalog_2, town, 600, port=7002)
    declared_tcp = holds_to_payments(town.catalog_2, town, 6, port=7000)
    policy(deny("payments", '{ to: [ { operation: { paths: [ "/admin" ], ports: [ "7002" ] } } ] }'))
    for process in undeclared:
        assert not held(process)
    assert cuts(agent, "http_rules") == before + 3
    assert all(held(process) for process in declared_tcp)


def test_request_under_way_is_answered_before_its_connection_ends(town, policy):
    """Where rules on requests come to a port: its connections end between two requests, from here and from other nodes."""
    web.serve(town.payments, 8090)
    slow = [place.spawn("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-g", url, name="slow")
            for place in (town.catalog_2, town.frontend)
            for url in (f"http://{town.payments.ip4}:8090/?delay=3500", f"http://[{town.payments.ip6}]:8090/?delay=3500")]
    idle = [hold for place in (town.catalog_2, town.frontend) for hold in holds_to_payments(place, town, 600, port=7002)]
    wait_for("the requests to be there", lambda: len(town.payments.run(
        "ss", "-Htn", "state", "established", "sport", "=", "8090").stdout.splitlines()) == 4)
    policy(deny("payments", '{ to: [ { operation: { paths: [ "/admin" ], ports: [ "7002", "8090" ] } } ] }'))
    for process in idle:
        assert not held(process)
    for process in slow:
        process.popen.wait(90)
    assert [process.output() for process in slow] == ["200"] * 4


def test_change_while_no_agent_was_there(town, policy):
    agent = town.agent("node-b")
    denied = holds_to_payments(town.catalog_2, town, 600)
    other = hold(town.stranger, town.payments.ip4, 7000, 8)
    agent.kill()
    town.mesh.write("50-policy.yaml", deny_caller("payments", "catalog"))
    agent.start()
    for process in denied:
        assert not held(process)
    assert held(other)


def test_connection_older_than_the_mesh_lives(tmp_path):
    with Net(tmp_path) as net:
        pods(net)
        servers(net)
        town = Town(net)
        older = holds_to_payments(town.catalog_2, town, 15)
        town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        town.mesh.write("00-workloads.yaml", base_config(net))
        town.mesh.start()
        younger = holds_to_payments(town.catalog_2, town, 600)
        town.mesh.write("50-policy.yaml", STRICT + "---\n" + deny_caller("payments", "catalog"))
        town.mesh.settle()
        for process in younger:
            assert not held(process)
        assert not call(town.catalog_2, town.payments.ip4, 7000)["ok"]
        assert all(held(process) for process in older)
