# SPDX-License-Identifier: Apache-2.0
"""Which way connections go, who they are authenticated as, and that applications see true addresses."""
import pytest

from lib.shell import until_seen, wait_for
from lib.town import principal
from lib.traffic import call

FAMILIES = [("4", "10.60.0.40"), ("6", "fd60::40"), ("mapped", "10.60.0.40")]
REMOTE = [("4", "10.60.0.30"), ("6", "fd60::30"), ("mapped", "10.60.0.30")]


@pytest.mark.parametrize("family,vip", FAMILIES)
def test_same_node_service_is_attested_and_direct(town, family, vip):
    seen = call(town.frontend, vip, 80, family=family)
    assert seen["ok"], seen
    assert seen["answer"]["name"] == "catalog-1"
    wait_for("an attested flow", lambda: town.agent("node-a").flows(
        path="attested", source_identity=principal("frontend"), destination_identity=principal("catalog")))


@pytest.mark.parametrize("family,vip", FAMILIES)
def test_same_node_both_ends_see_what_they_would_without_a_mesh(town, family, vip):
    seen = call(town.frontend, vip, 80, family=family)
    own = town.frontend.ip6 if family == "6" else town.frontend.ip4
    target = town.catalog_1.ip6 if family == "6" else town.catalog_1.ip4
    shown = "[%s]:%d" if family == "6" else "%s:%d"
    assert seen["peer"] == shown % (vip, 80)
    assert seen["local"].startswith((shown % (own, 0))[:-1])
    assert seen["answer"]["peer"] == seen["local"]
    assert seen["answer"]["local"] == shown % (target, 8080)


@pytest.mark.parametrize("family,vip", REMOTE)
def test_other_node_goes_through_mutual_tls(town, family, vip):
    seen = call(town.frontend, vip, 7000, family=family)
    assert seen["ok"], seen
    assert seen["answer"]["name"] == "payments"
    wait_for("an HBONE flow", lambda: town.agent("node-a").flows(
        path="hbone", source_identity=principal("frontend"), destination_identity=principal("payments")))


@pytest.mark.parametrize("family,vip", REMOTE)
def test_other_node_both_ends_see_true_addresses(town, family, vip):
    seen = call(town.frontend, vip, 7000, family=family)
    shown = "[%s]:%d" if family == "6" else "%s:%d"
    own = town.frontend.ip6 if family == "6" else town.frontend.ip4
    # the tunnel may take either family between the pods, so the server sees one of the client's addresses
    owns = (f"{town.frontend.ip4}:", f"[{town.frontend.ip6}]:")
    assert seen["peer"] == shown % (vip, 7000)
    assert seen["local"].startswith((shown % (own, 0))[:-1])
    assert seen["answer"]["peer"].startswith(owns), seen
    assert seen["answer"]["local"] in (f"{town.payments.ip4}:7000", f"[{town.payments.ip6}]:7000")


def test_nothing_readable_crosses_the_wire(town):
    secret = "the-secret-that-must-not-be-seen" * 100
    capture = town.node_a.spawn("tcpdump", "-i", "w2", "-A", "-s0", "-U", "-w", "-", name="capture").wait_output("listening on")
    assert call(town.frontend, "10.60.0.30", 7000, send=secret)["ok"]
    wait_for("captured packets", lambda: len(capture.output()) > 4000)
    capture.stop()
    assert "the-secret-that-must" not in capture.output()


@pytest.mark.parametrize("family,address", [("4", "10.50.2.30"), ("6", "fd50::2:30"), ("mapped", "10.50.2.30")])
def test_pod_address_without_service_is_carried_too(town, family, address):
    seen = call(town.frontend, address, 7000, family=family)
    assert seen["ok"] and seen["answer"]["name"] == "payments", seen


def test_service_with_endpoints_on_both_nodes_uses_both(town):
    until_seen(lambda: call(town.frontend, "10.60.0.20", 80)["answer"]["name"], {"catalog-1", "catalog-2"})


@pytest.mark.parametrize("family,vip", [("4", "10.60.0.30"), ("6", "fd60::30"), ("mapped", "10.60.0.30")])
@pytest.mark.parametrize("connected", [False, True])
def test_udp_replies_come_from_the_address_asked(town, family, vip, connected):
    seen = call(town.frontend, vip, 7001, udp=True, family=family, connect=connected)
    assert seen["ok"], seen
    assert seen["answer"]["name"] == "payments"
    assert seen["peer"] == (f"[{vip}]:7001" if family == "6" else f"{vip}:7001")


def test_workload_outside_the_mesh_reaches_permissive_pods_in_plaintext(town):
    seen = call(town.stranger, town.payments.ip4, 7000)
    assert seen["ok"], seen
    assert seen["answer"]["peer"].startswith(town.stranger.ip4)


def test_mesh_pod_reaches_outside_in_plaintext(town):
    seen = call(town.frontend, town.stranger.ip4, 8080)
    assert seen["ok"] and seen["answer"]["name"] == "stranger", seen


def test_loopback_inside_a_pod_is_untouched(town):
    for address in ("127.0.0.1", "::1"):
        seen = call(town.payments, address, 7000)
        assert seen["ok"] and seen["peer"].startswith(("127.0.0.1", "[::1]")), seen


def test_pod_reaches_itself_by_its_own_address(town):
    for address in (town.payments.ip4, town.payments.ip6):
        assert call(town.payments, address, 7000)["ok"]


def test_closed_port_is_refused_not_hanging(town):
    for vip_or_pod in ("10.50.1.20", "10.50.2.30"):
        seen = call(town.frontend, vip_or_pod, 9999)
        assert not seen["ok"] and seen["error"] in ("ECONNREFUSED", "ECONNRESET", "EOF"), seen


def test_large_transfers_arrive_whole(town):
    """64 MiB each way through the tunnel, compared by checksum."""
    script = ("import hashlib,socket,threading\n"
              "s=socket.create_connection(('10.60.0.30',7000)); f=s.makefile('rb'); f.readline()\n"
              "data=(b'0123456789abcdef'*4096); want=hashlib.sha256(); got=hashlib.sha256(); n=1024\n"
              "def send():\n"
              "    for i in range(n): s.sendall(data)\n"
              "    s.shutdown(socket.SHUT_WR)\n"
              "t=threading.Thread(target=send); t.start()\n"
              "for i in range(n): want.update(data)\n"
              "total=0\n"
              "while True:\n"
              "    chunk=f.read1(1<<20)\n"
              "    if not chunk: break\n"
              "    got.update(chunk); total+=len(chunk)\n"
              "t.join(); print(total, want.hexdigest()==got.hexdigest())\n")
    out = town.frontend.run("/usr/bin/python3", "-c", script).stdout.split()
    assert out == [str(64 << 20), "True"]
