# SPDX-License-Identifier: Apache-2.0
"""Others who decide: CUSTOM rules that ask an external authorizer, and keys that the agent fetches."""
import json

import pytest

from lib import judge, web
from lib.jwt import Issuer
from lib.kept import raw
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.traffic import PYTHON
from lib.web import get

URL = "http://10.60.0.30"
MESH = """trustDomain: cluster.local
extensionProviders:
- name: gate
  envoyExtAuthzHttp:
    service: authz.shop.svc.cluster.local
    port: 9000
    pathPrefix: /check
    timeout: 30s
    includeRequestHeadersInCheck: [ x-ext-* ]
    headersToUpstreamOnAllow: [ x-user ]
- name: rpc
  envoyExtAuthzGrpc: { service: authz.shop.svc.cluster.local, port: 9001, timeout: 30s }
- name: gone
  envoyExtAuthzHttp: { service: nobody.shop.svc.cluster.local, port: 9000, timeout: 30s, statusOnError: "503" }
- name: body
  envoyExtAuthzHttp:
    service: authz.shop.svc.cluster.local
    port: 9000
    timeout: 30s
    failOpen: true
    includeRequestHeadersInCheck: [ "x-*" ]
    includeRequestBodyInCheck: { maxRequestBytes: 16 }
- name: open
  envoyExtAuthzHttp: { service: nobody.shop.svc.cluster.local, port: 9000, timeout: 30s, failOpen: true }
"""
# Allows who says so, sends others to a login, and tells what it was asked. (http.server's own class asks the DNS for the
# host's name, which takes seconds where there is none.)
AUTHORIZER = """
import http.server, json, socketserver
class Gate(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do(self):
        ok = self.headers.get("x-ext-pass") == "yes"
        sent = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        body = json.dumps({"path": self.path, "headers": sorted(k.lower() for k in self.headers), "body": sent,
                           "partial": self.headers.get("x-envoy-auth-partial-body")}).encode()
        if self.headers.get("x-ext-bytes"): body = bytes(range(256))
        self.send_response(200 if ok else 302)
        self.send_header("x-user" if ok else "location", "ann" if ok else "https://login.example/")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = do
    def log_message(self, *words): pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
server = Server(("0.0.0.0", 9000), Gate)
print("listening", flush=True)
server.serve_forever()
"""
# Authorization/Check: the request is looked through for what it holds.
RPC_AUTHORIZER = """
def judge(body):
    who = b"spiffe://cluster.local/ns/shop/sa/frontend"
    if field(1, b"x-ext-pass") + field(2, b"yes") in body and who in body and b"/gated/rpc" in body:
        return field(3, field(2, field(1, field(1, b"x-user") + field(2, b"ann"))))
    return field(1, b"\\x08\\x07") + field(2, field(1, b"\\x08\\x91\\x03") + field(3, b"not you"))
"""
# One key set that can be changed by writing a file.
KEYS = """
import http.server, socketserver, sys
class Keys(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open(sys.argv[1], "rb").read()
        self.send_response(200 if body else 503)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
server = Server(("127.0.0.1", 9100), Keys)
print("listening", flush=True)
server.serve_forever()
"""


def start(place, script, *words):
    return place.spawn(PYTHON, "-c", script, *words, name=f"server-{place.name}").wait_output("listening")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("httpauthz")) as net:
        made = web.build(net, MESH, service("authz", "shop", [("http", 9000, 9000, "TCP"), ("grpc", 9001, 9001, "TCP")],
                                            ["10.60.0.60", "fd60::60"], app="catalog"))
        for pod in (made.catalog_1, made.catalog_2):
            start(pod, AUTHORIZER)
            judge.start(pod, RPC_AUTHORIZER)
        yield made


def custom(town, provider, path="/gated*"):
    town.mesh.write("30-custom.yaml", (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: custom, namespace: shop }\n"
        f"spec:\n  selector: {{ matchLabels: {{ app: payments }} }}\n  action: CUSTOM\n  provider: {{ name: {provider} }}\n"
        f"  rules: [ {{ to: [ {{ operation: {{ paths: [ '{path}' ] }} }} ] }} ]\n"))
    town.mesh.settle()


def test_an_authorizer_allows_and_denies(town):
    custom(town, "gate")
    answer = get(town.frontend, URL + "/gated/a?b=c", headers={"X-Ext-Pass": "yes", "X-User": "forged"})
    assert answer.status == 200 and answer.seen("x-user") == "ann", answer
    answer = get(town.frontend, URL + "/gated/a?b=c", headers={"X-Ext-Pass": "no", "X-Other": "1"})
    assert answer.status == 302 and answer.header("location") == "https://login.example/", answer
    asked = json.loads(answer.body)
    assert asked["path"] == "/check/gated/a?b=c"
    assert "x-ext-pass" in asked["headers"] and "x-other" not in asked["headers"]
    # What no CUSTOM rule matches is nobody's business.
    assert get(town.frontend, URL + "/free").status == 200


def test_an_authorizer_by_grpc(town):
    custom(town, "rpc")
    for _ in range(3):  # the connection is kept
        answer = get(town.frontend, URL + "/gated/rpc", headers={"X-Ext-Pass": "yes", "X-User": "forged"})
        assert answer.status == 200 and answer.seen("x-user") == "ann", answer
        answer = get(town.frontend, URL + "/gated/rpc", headers={"X-Ext-Pass": "no"})
        assert answer.status == 401 and answer.body == "not you", answer
    answer = get(town.frontend, URL + "/gated/rpc", headers={"X-Ext-Pass": "yes"}, method="POST", data="x" * 100000)
    assert answer.status == 200, answer


def test_an_authorizer_that_looks_at_bodies(town):
    custom(town, "body")
    yes = {"X-Ext-Pass": "yes", "X-Envoy-Auth-Partial-Body": "forged"}
    answer = get(town.frontend, URL + "/gated", headers=yes, method="POST", data="sixteen bytes it")
    assert answer.status == 200 and answer.json["body"] == 16, answer
    answer = get(town.frontend, URL + "/gated", headers={**yes, "X-Ext-Pass": "no"}, method="POST", data="some bytes")
    assert answer.status == 302, answer
    assert (asked := json.loads(answer.body))["body"] == "some bytes" and asked["partial"] == "false", answer
    # More than it looks at does not pass by failOpen.
    for size in (17, 100000):
        answer = get(town.frontend, URL + "/gated", headers=yes, method="POST", data="x" * size)
        assert answer.status == 413 and answer.body == "Payload Too Large", answer
    # An upgrade has no body to wait for.
    custom(town, "body", "/ws")
    upgrade = b"GET /ws?half=server HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Ext-Pass: %s\r\n\r\n"
    answer = raw(town.frontend, "10.60.0.30", 80, upgrade % b"yes")
    assert answer.statuses == [101] and answer.data.endswith("hello"), answer
    assert raw(town.frontend, "10.60.0.30", 80, upgrade % b"no" + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
               ).statuses == [302, 200]


def test_an_authorizers_answer_is_any_bytes(town):
    custom(town, "gate")
    answer = raw(town.frontend, "10.60.0.30", 80, b"GET /gated HTTP/1.1\r\nHost: a\r\nX-Ext-Bytes: 1\r\nConnection: close\r\n\r\n")
    assert answer.statuses == [302] and answer.data.endswith(bytes(range(256)).decode("latin-1")), answer


def test_an_authorizer_that_is_not_there(town):
    custom(town, "gone")
    assert get(town.frontend, URL + "/gated").status == 503
    custom(town, "open")
    assert get(town.frontend, URL + "/gated").status == 200
    custom(town, "unheard-of")
    assert get(town.frontend, URL + "/gated").status == 403
    findings = town.mesh.agents["node-b"].meshctl("analyze", check=False).stdout
    assert "unheard-of is not among the mesh's extensionProviders" in findings, findings
    assert get(town.frontend, URL + "/free").status == 200


def test_keys_are_fetched_by_the_agent(town, tmp_path):
    town.mesh.remove("30-custom.yaml")
    keys = tmp_path / "jwks.json"
    keys.write_text("")
    start(town.mesh.agents["node-b"].node, KEYS, str(keys))
    issuer = Issuer("https://login.example")
    town.mesh.write("31-jwt.yaml", (
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: jwt, namespace: shop }\n"
        "spec:\n  selector: { matchLabels: { app: payments } }\n  jwtRules:\n"
        f"  - {{ issuer: {issuer.name}, jwksUri: 'http://127.0.0.1:9100/jwks.json' }}\n"))
    town.mesh.settle()

    def ask(token=None):
        return get(town.frontend, URL + "/", headers={"Authorization": "Bearer " + token} if token else {})

    answer = ask(issuer.token())
    assert answer.status == 401 and answer.body == "Jwks remote fetch is failed", answer
    assert ask().status == 200
    agent = town.mesh.agents["node-b"]
    assert "no keys from http://127.0.0.1:9100/jwks.json" in agent.meshctl("analyze", check=False).stdout
    assert "127.0.0.1:9100/jwks.json: " in agent.meshctl("status", check=False).stdout
    assert agent.metrics()['weft_jwks_errors_total{uri="http://127.0.0.1:9100/jwks.json"}'] >= 1

    keys.write_text(issuer.jwks())
    wait_for("the keys to be in force", lambda: ask(issuer.token()).status == 200)
    assert ask(Issuer("https://login.example").token()).status == 401
    assert "1 key sets, 0 can't be fetched" in agent.meshctl("status", check=False).stdout
