# SPDX-License-Identifier: Apache-2.0
"""What ProxyConfig says of headers, of the mesh (defaultConfig) and of a workload (annotation proxy.istio.io/config): the
case of names, what is written, who is believed. Payments has rules on requests: both helpers see its requests."""
import base64
import hashlib
import re

import pytest

from lib import web
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.web import get

FAR, NEAR = "http://10.60.0.30", "http://10.60.0.81"  # the other node's payments; catalog-1, of the caller's node
MORE = service("near", "shop", [("http", 80, 8080, "TCP")], ["10.60.0.81", "fd60::81"], app="catalog, version: v1")
RULES = "".join(f"""apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: {app}, namespace: shop }}
spec:
  selector: {{ matchLabels: {{ app: {app} }} }}
  rules: [ {{ to: [ {{ operation: {{ notPaths: [ /secret ] }} }} ] }} ]
---
""" for app in ("payments", "catalog"))
PLAIN = "trustDomain: cluster.local\n"


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("headers")) as net:
        made = web.build(net, more=MORE)
        made.mesh.write("30-rules.yaml", RULES)
        made.mesh.settle()
        yield made


@pytest.fixture(autouse=True)
def as_before(town):
    yield
    town.mesh.write("10-mesh.yaml", PLAIN)
    annotate(town, "payments", None)
    for name in ("31-more.yaml", "21-routes.yaml"):
        try:
            town.mesh.remove(name)
        except FileNotFoundError:
            pass
    town.mesh.settle()


def mesh(town, config):
    town.mesh.write("10-mesh.yaml", PLAIN + f"defaultConfig:\n  {config}\n")
    town.mesh.settle()


def annotate(town, name, config):
    text = web.base_config(town.net) + MORE
    if config:
        mark = f"name: {name}\n  namespace: shop\n  annotations: {{ "
        assert mark in text
        text = text.replace(mark, mark + f"proxy.istio.io/config: '{config}', ")
    town.mesh.write("00-workloads.yaml", text)


def raw(place, url, *words):
    """Names of the answer's headers, as they came."""
    done = place.run("curl", "-s", "-i", "--max-time", 90, *words, url)
    head = done.stdout.partition("\n\n")[0].split("\n")
    return [line.partition(":")[0] for line in head[1:]]


def names(answer):
    return [key for key, _ in answer.json["headers"]]


SENT = {"X-MiXeD-Case": "1", "SOAPAction": "x", "Content-Type": "text/xml"}


@pytest.mark.parametrize("url", [FAR, NEAR, "http://[fd60::30]", "http://[fd60::81]"])
def test_case_of_names_is_preserved_when_asked_for(town, url):
    answer = get(town.frontend, url + "/", headers=SENT, data="abc")
    assert answer.status == 200 and "x-mixed-case" in names(answer) and "host" in names(answer), answer
    assert "x-server" in raw(town.frontend, url + "/")
    mesh(town, "proxyHeaders: { preserveHttp1HeaderCase: true }")
    wait_for("the names to come through",
             lambda: "X-MiXeD-Case" in names(get(town.frontend, url + "/", headers=SENT, data="abc")))
    answer = get(town.frontend, url + "/", headers=SENT, data="abc")
    assert {"Host", "X-MiXeD-Case", "SOAPAction", "Content-Type", "Content-Length", "User-Agent"} <= set(names(answer)), answer
    assert answer.json["body"] == 3
    wait_for("the answer's names to come through", lambda: "X-Server" in raw(town.frontend, url + "/"))
    assert {"Content-Type", "X-Server", "Content-Length"} <= set(raw(town.frontend, url + "/"))
    assert "Transfer-Encoding" in raw(town.frontend, url + "/?chunked=1")


def test_case_of_one_workload(town):
    annotate(town, "payments", "proxyHeaders: { preserveHttp1HeaderCase: true }")
    town.mesh.settle()
    # The caller's side does not preserve it; a stranger's connections come to the server's side as they are.
    wait_for("the names to come through",
             lambda: "X-MiXeD-Case" in names(get(town.stranger, f"http://{town.payments.ip4}:8080/", headers=SENT)))
    assert "x-mixed-case" in names(get(town.frontend, FAR + "/", headers=SENT))


def test_headers_that_are_left_out(town):
    answer = get(town.frontend, FAR + "/")
    assert answer.seen("x-envoy-attempt-count") == "1" and answer.seen("x-request-id")
    assert answer.header("x-envoy-upstream-service-time") is not None
    mesh(town, "proxyHeaders: { attemptCount: { disabled: true }, requestId: { disabled: true }, "
               "envoyDebugHeaders: { disabled: true } }")
    wait_for("no request id to be made", lambda: get(town.frontend, FAR + "/").seen("x-request-id") is None)
    answer = get(town.frontend, FAR + "/", headers={"X-Request-Id": "mine"})
    assert answer.seen("x-request-id") == "mine" and answer.seen("x-envoy-attempt-count") is None
    assert answer.header("x-envoy-upstream-service-time") is None


def test_server_header(town):
    assert get(town.frontend, FAR + "/?header=Server:App/1.0").header("server") == "App/1.0"
    mesh(town, "proxyHeaders: { server: { value: shop } }")
    wait_for("the server's name to change",
             lambda: get(town.frontend, FAR + "/?header=Server:App/1.0").header("server") == "shop")
    assert get(town.stranger, f"http://{town.payments.ip4}:8080/?header=Server:App/1.0").header("server") == "shop"
    assert get(town.frontend, FAR + "/secret").header("server") == "shop"


@pytest.mark.parametrize("mode,known,strange", [
    ("APPEND_FORWARD", "own", None), ("SANITIZE", None, None), ("FORWARD_ONLY", None, None),
    ("SANITIZE_SET", "own", None), ("ALWAYS_FORWARD_ONLY", None, "By=old")])
def test_client_certificates_of_a_workload(town, mode, known, strange):
    """The caller's side removes what an application claims; a stranger's claim reaches the server's side."""
    uri = "URI=spiffe://cluster.local/ns/shop/sa/frontend"
    claim = {"X-Forwarded-Client-Cert": "By=old"}
    annotate(town, "payments", f"proxyHeaders: {{ forwardedClientCert: {mode} }}")
    town.mesh.settle()

    def seen():
        mine = get(town.frontend, FAR + "/", headers=claim).seen("x-forwarded-client-cert")
        other = get(town.stranger, f"http://{town.payments.ip4}:8080/", headers=claim).seen("x-forwarded-client-cert")
        return (mine if not mine or uri not in mine or "By=old" in mine else "own", other)
    wait_for(f"x-forwarded-client-cert by {mode}", lambda: seen() == (known, strange))


def test_client_certificates_have_hash_and_subject(town):
    """As Istio's sidecars write it: Istio's certificates have no subject."""
    annotate(town, "payments", "proxyHeaders: { forwardedClientCert: APPEND_FORWARD }")
    town.mesh.settle()
    whole = re.compile(r"By=spiffe://cluster\.local/ns/shop/sa/payments;Hash=[0-9a-f]{64};Subject=\"\";"
                       r"URI=spiffe://cluster\.local/ns/shop/sa/frontend")
    wait_for("the whole element", lambda: whole.fullmatch(get(town.frontend, FAR + "/").seen("x-forwarded-client-cert") or ""))


def test_client_address_behind_trusted_proxies(town):
    policy = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: office, namespace: shop }
spec:
  selector: { matchLabels: { app: payments } }
  action: DENY
  rules: [ { from: [ { source: { notRemoteIpBlocks: [ 192.0.2.0/24, "2001:db8::/32" ] } } ] } ]
"""
    town.mesh.write("31-more.yaml", policy)
    mesh(town, "gatewayTopology: { numTrustedProxies: 1 }")

    def status(told):
        return get(town.frontend, FAR + "/", headers={"X-Forwarded-For": told} if told else None).status
    wait_for("the header to be believed", lambda: status("192.0.2.7") == 200)
    assert [status(told) for told in ("192.0.2.7", "2001:db8::1", "10.0.0.1, 192.0.2.7", "192.0.2.7, 198.51.100.1",
                                      "192.0.2.7, bogus", None)] == [200, 200, 200, 403, 403, 403]
    mesh(town, "gatewayTopology: { numTrustedProxies: 2 }")
    wait_for("two proxies to be believed", lambda: status("192.0.2.7, 198.51.100.1") == 200)
    assert status("192.0.2.7") == 403  # it came past them
    mesh(town, "gatewayTopology: { numTrustedProxies: 0 }")
    wait_for("nobody to be believed", lambda: status("192.0.2.7, 198.51.100.1") != 200)


def test_body_of_a_direct_response_is_bytes(town):
    body = bytes(range(256)) * 8
    town.mesh.write("21-routes.yaml", f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: payments, namespace: shop }}
spec:
  hosts: [ payments ]
  http: [ {{ directResponse: {{ status: 200, body: {{ bytes: "{base64.b64encode(body).decode()}" }} }} }} ]
""")
    town.mesh.settle()
    done = town.frontend.run("bash", "-c", f"curl -s --max-time 90 {FAR}/ | md5sum")
    assert done.stdout.split()[0] == hashlib.md5(body).hexdigest()
