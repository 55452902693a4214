# SPDX-License-Identifier: Apache-2.0
"""Names of the mesh resolve in pods that have any resolver; all other queries reach that resolver untouched."""
import pytest

SERVER = r"""
import socket, struct, sys, threading
def answer(data, peer):
    question = data[12:data.index(b'\0', 12) + 5]
    return data[:2] + b'\x81\x80' + struct.pack('>HHHH', 1, 1, 0, 0) + question + \
        b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + socket.inet_aton('192.0.2.53')
def tcp():
    s = socket.socket(socket.AF_INET6); s.setsockopt(1, 2, 1); s.bind(('::', 53)); s.listen()
    while True:
        c, peer = s.accept()
        size = struct.unpack('>H', c.recv(2))[0]
        out = answer(c.recv(size), peer); c.sendall(struct.pack('>H', len(out)) + out); c.close()
def udp(address): # one socket an address, so that answers come from the one that was asked
    u = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM); u.bind((address, 53))
    while True:
        data, peer = u.recvfrom(4096); u.sendto(answer(data, peer), peer)
for address in sys.argv[1:]: threading.Thread(target=udp, args=(address,), daemon=True).start()
print('listening', flush=True)
tcp()
"""

EXTERNAL = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: cards, namespace: shop }
spec:
  hosts: [ api.cards.example, "*.wild.example" ]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [ { number: 8080, name: tcp, protocol: TCP } ]
  endpoints: [ { address: STRANGER } ]
"""


@pytest.fixture(scope="module")
def resolvers(town):
    """A resolver that is nobody's in the mesh, on the other node, by both families."""
    server = town.node_b.spawn("/usr/bin/python3", "-c", SERVER, town.node_b.ip4, town.node_b.ip6, name="resolver")
    server.wait_output("listening")
    town.mesh.write("65-external.yaml", EXTERNAL.replace("STRANGER", town.stranger.ip4))
    town.mesh.settle()
    return [town.node_b.ip4, town.node_b.ip6]


def dig(place, resolver, name, *options):
    done = place.run("dig", f"@{resolver}", "+short", "+tries=1", "+time=60", name, *options, check=False)
    return done.stdout.split()


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("which", [0, 1])
def test_mesh_names_resolve_whatever_the_resolver(town, resolvers, which, transport):
    for name in ("catalog.shop.svc.cluster.local", "catalog.shop.svc", "catalog.shop", "catalog"):
        assert dig(town.frontend, resolvers[which], name, "A", transport) == ["10.60.0.20"], name
        assert dig(town.frontend, resolvers[which], name, "AAAA", transport) == ["fd60::20"], name


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("which", [0, 1])
def test_other_names_reach_the_resolver_that_was_asked(town, resolvers, which, transport):
    assert dig(town.frontend, resolvers[which], "www.elsewhere.example", "A", transport) == ["192.0.2.53"]


def test_owned_name_without_such_record_is_empty_not_forwarded(town, resolvers):
    assert dig(town.frontend, resolvers[0], "catalog.shop.svc.cluster.local", "MX") == []


def test_case_is_ignored(town, resolvers):
    assert dig(town.frontend, resolvers[0], "CaTaLog.SHOP.svc.cluster.local", "A") == ["10.60.0.20"]


def test_service_entry_without_address_gets_one_that_works(town, resolvers):
    from lib.traffic import call
    for name in ("api.cards.example", "a.wild.example"):
        address = dig(town.frontend, resolvers[0], name, "A")
        assert len(address) == 1 and address[0].startswith("240.240."), (name, address)
        seen = call(town.frontend, address[0], 8080)
        assert seen["ok"] and seen["answer"]["name"] == "stranger", seen


def test_pods_outside_the_mesh_are_not_captured(town, resolvers):
    assert dig(town.stranger, resolvers[0], "catalog.shop.svc.cluster.local", "A") == ["192.0.2.53"]
