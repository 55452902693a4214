# SPDX-License-Identifier: Apache-2.0
"""What goes the way of HTTP and is none: protocols where the server speaks first, bytes of any kind, and TLS that the
helper originates."""
import subprocess

import pytest

from lib import traffic, web
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.web import get

ECHO = 9000
MORE = (service("echo", "shop", [("web", 90, ECHO, "TCP")], ["10.60.0.60", "fd60::60"], app="payments")
        + service("near", "shop", [("web", 90, ECHO, "TCP")], ["10.60.0.61", "fd60::61"], app="catalog"))
RULE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: NAME, namespace: shop }
spec:
  hosts: [ NAME ]
  http:
  - match: [ { uri: { exact: /mesh } } ]
    directResponse: { status: 299, body: { string: routed } }
  - route: [ { destination: { host: NAME } } ]
---
"""
# HTTP rules on a pod bring all its inbound connections to the helper; those that are not HTTP meet the L4 part.
POLICY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: http, namespace: shop }
spec:
  selector: { matchLabels: { app: payments } }
  action: DENY
  rules: [ { to: [ { operation: { paths: [ /forbidden ] , ports: [ "8080" ] } } ] } ]
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("others")) as net:
        made = web.build(net, more=MORE)
        for name in ("catalog-1", "catalog-2", "payments"):
            traffic.serve(net.pods[name], ECHO)
        made.mesh.write("20-rules.yaml", RULE.replace("NAME", "echo") + RULE.replace("NAME", "near"))
        made.mesh.settle()
        yield made


def check_echo(town, address, names, **options):
    seen = traffic.call(town.frontend, address, 90, **options)
    assert seen["ok"], seen
    assert seen["answer"]["name"] in names
    # The helper reaches endpoints of either family.
    assert any(source in seen["answer"]["peer"] for source in (town.frontend.ip4, town.frontend.ip6)), seen


@pytest.mark.parametrize("address,names", [("10.60.0.60", ["payments"]), ("fd60::60", ["payments"]),
                                           ("10.60.0.61", ["catalog-1", "catalog-2"])])
def test_a_server_that_speaks_first_is_heard(town, address, names):
    url = f"http://{'[' + address + ']' if ':' in address else address}:90/mesh"
    # A client that is silent for 10 ms may be one that waits for its server, and this one speaks.
    wait_for("a client that was quick enough to be routed", lambda: get(town.frontend, url).status == 299)
    for _ in range(4):
        check_echo(town, address, names)


def test_a_server_that_speaks_first_behind_http_rules(town):
    town.mesh.write("30-policy.yaml", POLICY)
    try:
        town.mesh.settle()
        assert get(town.frontend, "http://10.60.0.30/forbidden").status == 403
        assert get(town.frontend, "http://10.60.0.30/").status == 200
        check_echo(town, "10.60.0.60", ["payments"])
    finally:
        town.mesh.remove("30-policy.yaml")
        town.mesh.settle()


def test_bytes_of_any_kind_arrive(town):
    script = ("import os,socket,sys,threading; s=socket.create_connection((sys.argv[1],90)); f=s.makefile('rb'); f.readline()\n"
              "d=b'\\0'+os.urandom(6<<20); threading.Thread(target=lambda:(s.sendall(d),s.shutdown(1))).start()\n"
              "print(f.read()==d)")
    for address in ("10.60.0.60", "10.60.0.61"):
        for _ in range(3):
            assert town.frontend.run(traffic.PYTHON, "-c", script, address).stdout.strip() == "True"


# --- TLS to others ---

def openssl(directory, *words):
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def authority(directory):
    """A root, and a certificate of it for api.example."""
    directory.mkdir()
    openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
            "-out", "ca.pem", "-subj", "/CN=their root", "-days", "2")
    openssl(directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out",
            "req.pem", "-subj", "/CN=api")
    (directory / "san").write_text("subjectAltName=DNS:api.example\n")
    openssl(directory, "x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            "cert.pem", "-days", "2", "-extfile", "san")
    return directory


def test_tls_is_originated_and_checked(town, tmp_path):
    files, others = authority(tmp_path / "theirs"), authority(tmp_path / "others")
    stranger = town.net.pods["stranger"]
    stranger.spawn("openssl", "s_server", "-accept", "8443", "-cert", files / "cert.pem", "-key", files / "key.pem",
                            "-www", name="tls").wait_output("ACCEPT")
    entry = ("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: api, namespace: shop }\n"
             "spec: { hosts: [ api.example ], addresses: [ 10.60.0.70 ], location: MESH_EXTERNAL, resolution: STATIC, "
             "ports: [ { number: 80, name: http, protocol: HTTP, targetPort: 8443 } ], "
             f"endpoints: [ {{ address: {stranger.ip4} }} ] }}\n")

    def rule(ca, more=""):
        town.mesh.write("40-api.yaml", entry + "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                        "metadata: { name: api, namespace: shop }\nspec: { host: api.example, trafficPolicy: { tls: "
                        f"{{ mode: SIMPLE, caCertificates: {ca}{more} }} }} }}\n")
        town.mesh.settle()

    try:
        rule(files / "ca.pem")
        answer = get(town.frontend, "http://10.60.0.70/", host="api.example")
        assert answer.status == 200 and "TLSv1.3" in answer.body, answer
        for ca, more in ((others, ""), (files, ", subjectAltNames: [ else.example ]")):
            rule(ca / "ca.pem", more)
            wait_for("the server to be refused", lambda: get(town.frontend, "http://10.60.0.70/", host="api.example").status == 503)
            rule(files / "ca.pem")
            wait_for("the server to be trusted", lambda: get(town.frontend, "http://10.60.0.70/", host="api.example").status == 200)
    finally:
        town.mesh.remove("40-api.yaml")
        town.mesh.settle()
