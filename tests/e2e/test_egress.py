# SPDX-License-Identifier: Apache-2.0
"""Calls of names outside of the mesh whose addresses nobody gives: resolution NONE, decided by host and by server name."""
import re

import pytest

from lib import traffic, web
from lib.net import Net
from lib.shell import wait_for
from lib.web import get
from test_http_others import authority, openssl

ECHO = 9100
ENTRIES = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: wide, namespace: shop }
spec:
  hosts: [ "*.example.com" ]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [ { number: 80, name: http, protocol: HTTP }, { number: 443, name: tls, protocol: TLS } ]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: one, namespace: shop }
spec:
  hosts: [ api.example.org ]
  location: MESH_EXTERNAL
  ports: [ { number: 80, name: http, protocol: HTTP }, { number: 443, name: https, protocol: HTTPS } ]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: bytes, namespace: shop }
spec:
  hosts: [ db.example.net ]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [ { number: ECHO, name: tcp, protocol: TCP } ]
---
""".replace("ECHO", str(ECHO))
SIDECAR = """apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: default, namespace: shop }
spec: { outboundTrafficPolicy: { mode: MODE } }
---
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    files = authority(tmp_path_factory.mktemp("egress") / "ca")
    with Net(tmp_path_factory.mktemp("egress-net")) as net:
        made = web.build(net, more=ENTRIES)
        stranger = net.pods["stranger"]
        web.serve(stranger, 80)
        traffic.serve(stranger, ECHO)
        traffic.serve(stranger, ECHO + 1)
        for port in (443, 8443):
            server = stranger.spawn("openssl", "s_server", "-accept", port, "-cert", files / "cert.pem", "-key",
                                    files / "key.pem", "-www", name=f"tls-{port}")
            wait_for("the TLS server to listen", lambda s=server: re.search("ACCEPT", s.output()))
        made.files = files
        yield made


def policy(town, mode):
    town.mesh.write("15-sidecar.yaml", SIDECAR.replace("MODE", mode))
    town.mesh.settle()


@pytest.fixture
def allow_any(town):
    policy(town, "ALLOW_ANY")


@pytest.fixture
def registry_only(town):
    policy(town, "REGISTRY_ONLY")


def addresses(town):
    stranger = town.net.pods["stranger"]
    return [stranger.ip4, f"[{stranger.ip6}]"]


def tls(town, name, address, *words):
    """curl's answer from https://name/ at the address; without a name: of the address itself."""
    to = ["--resolve", f"{name}:443:{address}"] if name else []
    return get(town.frontend, f"https://{name or address}/", "-k", *to, *words)


def test_registry_only_passes_the_hosts_that_are_written(town, registry_only):
    for address in addresses(town):
        for host in ("www.example.com", "a.b.example.com", "api.example.org"):
            answer = get(town.frontend, f"http://{address}/", host=host)
            assert answer.status == 200 and answer.name == "stranger", (host, answer)
            assert tls(town, host, address).status == 200, host


def test_registry_only_refuses_all_others(town, registry_only):
    agent = town.agent("node-a")
    for address in addresses(town):
        for host in ("example.com", "www.example.org", address):
            before = agent.metric("weft_drops_total", reason="not_in_registry")
            assert get(town.frontend, f"http://{address}/", host=host).status == 502, host
            assert tls(town, "" if host == address else host, address).body == "35", host
            wait_for("both refusals to be counted", lambda n=before: agent.metric(
                "weft_drops_total", reason="not_in_registry") >= n + 2)


def test_allow_any_passes_all(town, allow_any):
    for address in addresses(town):
        for host in ("www.example.com", "www.example.org"):
            assert get(town.frontend, f"http://{address}/", host=host).name == "stranger", host
            assert tls(town, host, address).status == 200, host
        assert tls(town, "", address).status == 200
