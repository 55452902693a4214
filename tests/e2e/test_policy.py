# SPDX-License-Identifier: Apache-2.0
"""Who may call whom: PeerAuthentication and AuthorizationPolicy on real connections, and live changes of them."""
import pytest

from lib.mesh import service
from lib.shell import wait_for
from lib.traffic import call, held, hold

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec: { mtls: { mode: STRICT } }
"""


def authorization(name, app, action, rules):
    return (f"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
            f"metadata: {{ name: {name}, namespace: shop }}\n"
            f"spec:\n  selector: {{ matchLabels: {{ app: {app} }} }}\n  action: {action}\n  rules: {rules}\n")


@pytest.fixture
def policy(town):
    """Writes a policy file, waits until it is in force, and removes it afterwards."""
    written = []

    def write(text, name="50-policy.yaml"):
        town.mesh.write(name, text)
        written.append(name)
        town.mesh.settle()
    yield write
    for name in set(written):
        town.mesh.remove(name)
    town.mesh.settle()


def refused(seen):
    return not seen["ok"] and seen["error"] in ("ECONNREFUSED", "ECONNRESET", "EPERM", "EOF", "ENOTCONN")


def drops(town, node, reason):
    return town.agent(node).metric("weft_drops_total", reason=reason)


def test_strict_refuses_plaintext_before_it_is_accepted(town, policy):
    policy(STRICT)
    before = drops(town, "node-b", "mtls_required")
    for address in (town.payments.ip4, town.payments.ip6):
        seen = call(town.stranger, address, 7000)
        assert seen.get("error") == "ECONNREFUSED", seen
    assert drops(town, "node-b", "mtls_required") == before + 2


def test_strict_lets_mesh_callers_pass_attested_and_mtls(town, policy):
    policy(STRICT)
    for vip in ("10.60.0.40", "fd60::40", "10.60.0.30", "fd60::30"):
        port = 80 if vip.endswith("40") else 7000
        assert call(town.frontend, vip, port)["ok"], vip
    assert call(town.frontend, "10.60.0.30", 7000, family="mapped")["ok"]


def test_strict_lets_the_nodes_own_probes_pass(town, policy):
    policy(STRICT)
    for node, pod in ((town.node_a, town.catalog_1), (town.node_b, town.payments)):
        port = 8080 if pod is town.catalog_1 else 7000
        for address in (pod.ip4, pod.ip6):
            seen = call(node, address, port)
            assert seen["ok"], seen
    assert refused(call(town.node_a, town.payments.ip4, 7000)), "another node's host is not attested"


def test_strict_refuses_udp_unless_the_port_is_permissive(town, policy):
    policy(STRICT)
    assert not call(town.frontend, "10.60.0.30", 7001, udp=True, timeout=1)["ok"]
    policy(STRICT + "---\n" + """
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: { name: payments-notify, namespace: shop }
spec:
  selector: { matchLabels: { app: payments } }
  portLevelMtls: { 7001: { mode: PERMISSIVE } }
""")
    assert call(town.frontend, "10.60.0.30", 7001, udp=True)["ok"]
    assert refused(call(town.stranger, town.payments.ip4, 7000)), "the other ports stay strict"


@pytest.mark.parametrize("app,vip,port", [("catalog", "10.60.0.40", 80), ("payments", "10.60.0.30", 7000),
                                          ("catalog", "fd60::40", 80), ("payments", "fd60::30", 7000)])
def test_deny_by_principal(town, policy, app, vip, port):
    assert call(town.frontend, vip, port)["ok"]
    policy(authorization("no-frontend", app, "DENY",
                         '[ { from: [ { source: { principals: [ "cluster.local/ns/shop/sa/frontend" ] } } ] } ]'))
    assert refused(call(town.frontend, vip, port))


def test_allow_names_one_caller_and_refuses_the_rest(town, policy):
    policy(authorization("callers", "payments", "ALLOW",
                         '[ { from: [ { source: { principals: [ "*/sa/frontend" ] } } ], '
                         'to: [ { operation: { ports: [ "7000" ] } } ] } ]'))
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    assert refused(call(town.frontend, town.payments.ip4, 7002)), "another port"
    assert refused(call(town.catalog_1, "10.60.0.30", 7000)), "another identity, over mTLS"
    assert refused(call(town.catalog_2, "10.60.0.30", 7000)), "another identity, attested"
    assert refused(call(town.stranger, town.payments.ip4, 7000)), "no identity"


def test_allow_without_rules_refuses_all(town, policy):
    policy(authorization("nobody", "catalog", "ALLOW", "[]"))
    assert refused(call(town.frontend, "10.60.0.40", 80))


def test_ip_blocks(town, policy):
    policy(authorization("blocks", "payments", "DENY",
                         f'[ {{ from: [ {{ source: {{ ipBlocks: [ "{town.stranger.ip4}/32" ] }} }} ] }} ]'))
    assert refused(call(town.stranger, town.payments.ip4, 7000))
    assert call(town.stranger, town.payments.ip6, 7000)["ok"], "its IPv6 address is not in the block"
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]


def test_namespaces_and_their_negation(town, policy):
    policy(authorization("strangers", "payments", "DENY", '[ { from: [ { source: { notNamespaces: [ shop ] } } ] } ]'))
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    assert refused(call(town.stranger, town.payments.ip4, 7000))


def test_audit_decides_nothing(town, policy):
    policy(authorization("watch", "payments", "AUDIT", "[ {} ]"))
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]


def test_http_rule_on_a_tcp_port_denies_more_never_less(town, policy):
    policy(authorization("http", "payments", "ALLOW", '[ { to: [ { operation: { methods: [ GET ] } } ] } ]'))
    assert refused(call(town.frontend, "10.60.0.30", 7000))


@pytest.mark.parametrize("action,operation,first,second", [
    ("ALLOW", "ports: [ '7000', '7001' ]", True, False), ("ALLOW", "methods: [ GET ], ports: [ '7000' ]", False, False),
    ("DENY", "methods: [ GET ]", False, False), ("DENY", "methods: [ GET ], ports: [ '7000' ]", False, True)])
def test_ports_and_methods_as_in_istios_task_for_tcp(town, policy, action, operation, first, second):
    """What can't be known of a connection matches no ALLOW, and takes nothing away from a DENY."""
    policy(authorization("tcp", "payments", action, f"[ {{ to: [ {{ operation: {{ {operation} }} }} ] }} ]"))
    for address in (town.payments.ip4, town.payments.ip6):
        assert call(town.frontend, address, 7000)["ok"] == first
        assert call(town.frontend, address, 7002)["ok"] == second


def test_aliases_of_the_trust_domain(town, policy):
    def allow(domain):
        rules = f"[ {{ from: [ {{ source: {{ principals: [ {domain}/ns/shop/sa/frontend ] }} }} ] }} ]"
        policy(authorization("one", "payments", "ALLOW", rules) + "---\n" + authorization("two", "catalog", "ALLOW", rules))
        return [call(town.frontend, vip, port)["ok"] for vip, port in (("10.60.0.30", 7000), ("fd60::40", 80))]

    assert allow("cluster.local") == [True, True] and allow("old-td") == [False, False]
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\ntrustDomainAliases: [ old-td ]\n")
    try:
        assert allow("old-td") == [True, True] and allow("else-td") == [False, False]
        assert refused(call(town.catalog_2, "10.60.0.30", 7000))
    finally:
        town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        town.mesh.settle()


def test_policy_change_cuts_live_mtls_connections_it_forbids(town, policy):
    going = hold(town.frontend, "10.60.0.30", 7000, 600)
    other = hold(town.catalog_1, "10.60.0.30", 7000, 3)
    policy(authorization("cut", "payments", "DENY",
                         '[ { from: [ { source: { principals: [ "*/sa/frontend" ] } } ] } ]'))
    assert not held(going)
    assert held(other), "a connection that the change does not forbid lives on"


def test_registry_only_refuses_what_is_not_known(town):
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\noutboundTrafficPolicy: { mode: REGISTRY_ONLY }\n")
    town.mesh.settle()
    try:
        before = drops(town, "node-a", "not_in_registry")
        assert refused(call(town.frontend, town.stranger.ip4, 8080))
        assert refused(call(town.frontend, town.stranger.ip6, 8080))
        assert drops(town, "node-a", "not_in_registry") == before + 2
        assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    finally:
        town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        town.mesh.settle()
    assert call(town.frontend, town.stranger.ip4, 8080)["ok"]


def test_same_node_mtls_instead_of_attestation(town):
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\nweft: { sameNode: mtls }\n")
    town.mesh.settle()
    try:
        before = town.agent("node-a").metric("weft_connections_total", path="hbone")
        assert call(town.frontend, "10.60.0.40", 80)["ok"]
        wait_for("an mTLS connection on the node itself",
                 lambda: town.agent("node-a").metric("weft_connections_total", path="hbone") > before)
    finally:
        town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        town.mesh.settle()


def test_policy_with_too_many_alternatives_holds_nothing_else_up(town):
    rules = "[ " + ", ".join(f'{{ to: [ {{ operation: {{ ports: [ "{port}" ] }} }} ] }}' for port in range(1, 301)) + " ]"
    policy_file, service_file = "50-policy.yaml", "51-more.yaml"
    town.mesh.write(service_file, "")
    town.mesh.write(policy_file, authorization("large", "payments", "DENY", rules))
    try:
        wait_for("the reason in the status", lambda: "more than 256" in town.agent("node-b").meshctl("status", check=False).stdout)
        town.mesh.write(service_file, service("later", "shop", [("tcp", 80, 8080, "TCP")], ["10.60.0.99"],
                                              app="catalog, version: v1"))
        wait_for("a service that came after it", lambda: call(town.payments, "10.60.0.99", 80)["ok"])
        agent = town.agent("node-b")
        agent.kill()
        agent.start(wait=False)
        wait_for("the agent to start with it", lambda: "more than 256" in agent.meshctl("status", check=False).stdout)
        assert call(town.payments, "10.60.0.99", 80)["ok"]
    finally:
        town.mesh.remove(policy_file)
        town.mesh.remove(service_file)
        town.mesh.settle()


def test_strict_ends_a_udp_exchange_that_is_going_on(town, policy):
    def ask(patience):
        return town.stranger.run("python3", "-c", f"import socket,sys\ns=socket.socket(2,2); s.bind(('',5557)); s.settimeout({patience})\n"
                                 f"s.sendto(b'x',('{town.payments.ip4}',7001)); s.recv(99)", check=False).returncode == 0
    assert ask(60)
    policy(STRICT)
    assert not ask(1)
