# SPDX-License-Identifier: Apache-2.0
"""TLS between the mesh and others: certificates of Secrets, revoked ones, why a handshake failed, and policies that ask for
the server name of TLS that passes through."""
import base64
import json
import os
import re
import subprocess

import pytest

from lib import traffic, web
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.web import get

API = "http://10.60.0.70/"
TLS_PORT = 8443
MORE = (service("secure", "shop", [("https", 443, TLS_PORT, "TCP")], ["10.60.0.62", "fd60::62"], app="payments")
        + service("backend", "shop", [("http", 80, TLS_PORT, "TCP")], ["10.60.0.63", "fd60::63"], app="payments"))


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("httptls")) as net:
        log = os.path.join(net.directory, "access.log")
        made = web.build(net, more=MORE, mesh_yaml=(
            "trustDomain: cluster.local\nextensionProviders:\n"
            f"- {{ name: json, envoyFileAccessLog: {{ path: {log}, logFormat: {{ labels: {{ path: '%REQ(:PATH)%', "
            "flags: '%RESPONSE_FLAGS%', why: '%UPSTREAM_TRANSPORT_FAILURE_REASON%' } } } }\n"))
        made.log = log
        made.mesh.write("15-log.yaml", (
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: log, namespace: shop }\n"
            "spec: { accessLogging: [ { match: { mode: CLIENT }, providers: [ { name: json } ] } ] }\n"))
        made.mesh.settle()
        yield made


# --- certificates ---

def openssl(directory, *words):
    subprocess.run(["openssl", *map(str, words)], cwd=directory, check=True, capture_output=True)


class Authority:
    """A root in a directory, the certificates that it signs, and those that it revokes."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        (directory / "index.txt").touch()
        (directory / "ca.cnf").write_text(
            f"[ca]\ndefault_ca = a\n[a]\ndatabase = {directory}/index.txt\ndefault_md = sha256\n"
            "default_crl_days = 1\npolicy = p\n[p]\ncommonName = optional\n")
        openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
                "-out", "ca.pem", "-subj", "/CN=their root", "-days", "2")

    def certificate(self, name, san="DNS:api.example"):
        openssl(self.directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.directory / "san").write_text(f"subjectAltName={san}\n")
        openssl(self.directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "2", "-extfile", "san")
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def revoke(self, *names):
        for name in names:
            openssl(self.directory, "ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-revoke", f"{name}.pem")
        openssl(self.directory, "ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-gencrl", "-out", "crl.pem")
        return self.directory / "crl.pem"

    @property
    def root(self):
        return self.directory / "ca.pem"


def secret(name, plain=False, **files):
    """A Secret; keys with "_" for ".". plain: stringData."""
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{ name: {name}, namespace: shop }}\n{'stringData' if plain else 'data'}:\n"
    for key, path in files.items():
        value = path.read_text() if plain else base64.b64encode(path.read_bytes()).decode()
        text += f"  {key.replace('_', '.')}: {json.dumps(value)}\n"
    return text + "---\n"


def tls_server(place, port, cert, key, *words, name="tls"):
    server = place.spawn("openssl", "s_server", "-accept", port, "-cert", cert, "-key", key, "-www", *words, name=name)
    return server.wait_output("ACCEPT")


def api_rule(town, tls, more=""):
    """Calls to api.example, port 80, become TLS to the stranger."""
    town.mesh.write("40-api.yaml", more + (
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: api, namespace: shop }\n"
        "spec: { hosts: [ api.example ], addresses: [ 10.60.0.70 ], location: MESH_EXTERNAL, resolution: STATIC, "
        f"ports: [ {{ number: 80, name: http, protocol: HTTP, targetPort: {TLS_PORT} }} ], "
        f"endpoints: [ {{ address: {town.net.pods['stranger'].ip4} }} ] }}\n---\n"
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: api, namespace: shop }\n"
        f"spec: {{ host: api.example, trafficPolicy: {{ tls: {{ {tls} }} }} }}\n"))
    town.mesh.settle()


def api(town, path=""):
    return get(town.frontend, API + path, host="api.example")


def becomes(town, status, what):
    return wait_for(what, lambda: (lambda answer: answer.status == status and answer)(api(town)))


@pytest.fixture(name="clean")
def fixture_clean(town):
    yield
    for name in ("40-api.yaml", "41-secret.yaml", "50-policy.yaml"):
        if os.path.exists(os.path.join(str(town.mesh.config), name)):
            town.mesh.remove(name)
    town.mesh.settle()


def findings(town):
    return " ".join(row["text"] for row in town.agent("node-a").api("/v1/analyze")["items"])


# --- Secrets ---

def test_roots_come_from_a_secret_and_change_with_it(town, tmp_path, clean):
    theirs, others = Authority(tmp_path / "theirs"), Authority(tmp_path / "others")
    server = tls_server(town.net.pods["stranger"], TLS_PORT, *theirs.certificate("api"))
    try:
        api_rule(town, "mode: SIMPLE, credentialName: api-cert")
        becomes(town, 503, "the missing Secret to close the way")
        assert "there is no Secret api-cert in namespace shop: the connections fail" in findings(town)

        town.mesh.write("41-secret.yaml", secret("api-cert", cacert=theirs.root))
        town.mesh.settle()
        assert "TLSv1.3" in becomes(town, 200, "the root to be trusted").body
        assert "api-cert" not in findings(town)

        town.mesh.write("41-secret.yaml", secret("api-cert", ca_crt=others.root))
        becomes(town, 503, "the other root not to be")
        town.mesh.write("41-secret.yaml", (
            secret("api-cert", ca_crt=others.root) + secret("api-cert-cacert", plain=True, cacert=theirs.root)))
        becomes(town, 200, "the Secret for roots alone to go first")
    finally:
        server.stop()


def test_mutual_shows_the_certificate_of_a_secret(town, tmp_path, clean):
    theirs = Authority(tmp_path / "theirs")
    server = tls_server(town.net.pods["stranger"], TLS_PORT, *theirs.certificate("api"), "-Verify", 1, "-verify_return_error",
                        "-CAfile", theirs.root)
    one, two = theirs.certificate("one", "DNS:one.example"), theirs.certificate("two", "DNS:two.example")
    try:
        town.mesh.write("41-secret.yaml", secret("own", tls_crt=one[0], tls_key=one[1], ca_crt=theirs.root))
        api_rule(town, "mode: MUTUAL, credentialName: own")
        becomes(town, 200, "the certificate to be shown")
        assert "CN = one" in server.output() or "CN=one" in server.output()

        town.mesh.write("41-secret.yaml", secret("own", plain=True, cert=two[0], key=two[1], cacert=theirs.root))
        wait_for("the other certificate, on new connections", lambda: (
            api(town).status == 200 and re.search("CN ?= ?two", server.output())))

        town.mesh.write("41-secret.yaml", secret("own", cert=two[0], key=one[1], cacert=theirs.root))
        becomes(town, 503, "a key that is another's to close the way")
    finally:
        server.stop()


def test_nobody_is_shown_a_secret(town, tmp_path, clean):
    theirs = Authority(tmp_path / "theirs")
    one, two = theirs.certificate("one"), theirs.certificate("two")
    agent = town.agent("node-a")
    town.mesh.write("41-secret.yaml", secret("own", plain=True, cert=one[0], key=one[1], cacert=theirs.root))
    town.mesh.settle()
    api_rule(town, "mode: MUTUAL, credentialName: own")
    assert api(town).status == 503  # nobody is there, but the helper has the key now
    before = town.mesh.revision("node-a")
    town.mesh.write("41-secret.yaml", secret("own", cert=two[0], key=two[1], cacert=theirs.root))
    town.mesh.settle()
    hidden = {line for key in (one[1], two[1]) for line in key.read_text().splitlines()[1:-1]}
    hidden |= {base64.b64encode(two[1].read_bytes()).decode()[:60]}
    said = "".join(agent.meshctl(*words, check=False).stdout for words in (
        ("get", "secret", "own", "-n", "shop", "-o", "yaml"), ("get", "secret", "-o", "json"), ("config", "history"),
        ("config", "diff", str(before), str(before + 1)), ("proxy-config", "all", "-o", "json")))
    said += agent.api("/v1/resources/secret/shop/own", raw=True)
    assert said.count("(hidden)") > 6
    assert not [line for line in hidden if line in said]
    for directory, _, names in os.walk(agent.state_dir):
        for name in names:
            path = os.path.join(directory, name)
            assert not os.stat(path).st_mode & 0o077 or not any(
                line.encode() in open(path, "rb").read() for line in hidden), path
    assert not [line for line in hidden if line in agent.process.output()]


# --- what is revoked, and what is said ---

def test_revoked_servers_are_refused_and_counted(town, tmp_path, clean):
    theirs = Authority(tmp_path / "theirs")
    cert = theirs.certificate("api")
    theirs.certificate("other")
    agent = town.agent("node-a")
    server = tls_server(town.net.pods["stranger"], TLS_PORT, *cert)
    before = agent.metric("weft_drops_total", reason="tls_revoked")
    try:
        crl = theirs.revoke("other")
        api_rule(town, f"mode: SIMPLE, caCertificates: {theirs.root}, caCrl: {crl}")
        becomes(town, 200, "another's revocation not to matter")
        theirs.revoke("api")  # the same file; nothing else says so
        wait_for("the revoked server to be refused", lambda: api(town).status == 503)
        wait_for("the count", lambda: agent.metric("weft_drops_total", reason="tls_revoked") > before)

        town.mesh.write("41-secret.yaml", secret("api-cert", ca_crt=theirs.root, ca_crl=crl))
        api_rule(town, "mode: SIMPLE, credentialName: api-cert")
        town.mesh.settle()
        assert api(town, "revoked").status == 503
        assert_logged(town, "/revoked", "certificate revoked")
    finally:
        server.stop()


def assert_logged(town, path, why):
    row = wait_for("the line of the access log", lambda: [
        json.loads(line) for line in open(town.log, encoding="utf-8") if path in line])[0]
    assert "UF" in row["flags"].split(",") and row["why"].startswith("TLS_error: ") and why in row["why"], row


def test_why_tls_failed_is_logged(town, tmp_path, clean):
    theirs, others = Authority(tmp_path / "theirs"), Authority(tmp_path / "others")
    stranger = town.net.pods["stranger"]
    server = tls_server(stranger, TLS_PORT, *theirs.certificate("api"))
    try:
        api_rule(town, f"mode: SIMPLE, caCertificates: {others.root}")
        becomes(town, 503, "the server not to be trusted")
        assert api(town, "untrusted").status == 503
        assert_logged(town, "/untrusted", "the certificate of api.example: ")
        api_rule(town, f"mode: SIMPLE, caCertificates: {theirs.root}, subjectAltNames: [ else.example ]")
        wait_for("the log of another name", lambda: (api(town, "misnamed") and [
            line for line in open(town.log, encoding="utf-8") if "misnamed" in line and "is not for else.example" in line]))
        api_rule(town, "mode: SIMPLE, insecureSkipVerify: true")
        becomes(town, 200, "anybody to be trusted")
    finally:
        server.stop()

    server = traffic.serve(stranger, TLS_PORT)  # which speaks first, and no TLS
    try:
        api_rule(town, f"mode: SIMPLE, caCertificates: {theirs.root}")
        becomes(town, 503, "a server without TLS to fail")
        assert api(town, "plaintext").status == 503
        assert_logged(town, "/plaintext", "the handshake with api.example")
    finally:
        server.stop()


# --- BackendTLSPolicy ---

def test_backend_tls_policy(town, tmp_path, clean):
    theirs, others = Authority(tmp_path / "theirs"), Authority(tmp_path / "others")
    server = tls_server(town.payments, TLS_PORT, *theirs.certificate("api", "DNS:backend.example,URI:spiffe://td/backend"))
    callers = [(town.frontend, "10.60.0.63"), (town.frontend, "[fd60::63]"), (town.net.pods["catalog-2"], "10.60.0.63")]

    def write(validation, root, rule=""):
        text = json.dumps(root.read_text())
        town.mesh.write("41-secret.yaml", (
            f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: roots, namespace: shop }}\ndata: {{ ca.crt: {text} }}\n---\n"
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: { name: backend, namespace: shop }\n"
            "spec: { targetRefs: [ { group: '', kind: Service, name: backend, sectionName: http } ], validation: { "
            f"caCertificateRefs: [ {{ group: '', kind: ConfigMap, name: roots }} ], {validation} }} }}\n---\n{rule}"))
        town.mesh.settle()

    def all_get(status, what):
        for place, address in callers:
            wait_for(f"{what}, from {place.name} to {address}", lambda: get(place, f"http://{address}/").status == status)

    try:
        write("hostname: backend.example", theirs.root)
        all_get(200, "TLS to the endpoints")
        assert "TLSv1.3" in get(town.frontend, "http://10.60.0.63/").body
        write("hostname: other.example", theirs.root)
        all_get(503, "another name to be refused")
        write("hostname: other.example, subjectAltNames: [ { type: URI, uri: 'spiffe://td/backend' } ]", theirs.root)
        all_get(200, "a name of several to do")
        write("hostname: backend.example", others.root)
        all_get(503, "another root not to be trusted")
        write("hostname: backend.example", others.root, (
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: backend, namespace: shop }\n"
            "spec: { host: backend, trafficPolicy: { tls: { mode: SIMPLE, sni: backend.example, "
            f"subjectAltNames: [ backend.example ], caCertificates: {theirs.root} }} }} }}\n"))
        all_get(200, "the DestinationRule to go first")
    finally:
        server.stop()


# --- connection.sni ---

def policy(action, condition):
    return ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: names, namespace: shop }\n"
            f"spec: {{ selector: {{ matchLabels: {{ app: payments }} }}, action: {action}, rules: [ "
            f"{{ to: [ {{ operation: {{ ports: [ '{TLS_PORT}' ] }} }} ], "
            f"when: [ {{ key: connection.sni, {condition} }} ] }} ] }}\n")


def handshake(place, address, name):
    """Whether TLS through to the application comes about, with a server name or (None) without."""
    words = ["-servername", name] if name else ["-noservername"]
    host = f"[{address}]" if ":" in address else address
    done = place.run("timeout", 60, "openssl", "s_client", "-connect", f"{host}:443", *words, check=False)
    return "-----BEGIN CERTIFICATE-----" in done.stdout


def test_policies_ask_for_the_server_name(town, tmp_path, clean):
    theirs = Authority(tmp_path / "theirs")
    server = tls_server(town.payments, TLS_PORT, *theirs.certificate("api"), name="passed")
    callers = [(town.frontend, "10.60.0.62"), (town.frontend, "fd60::62"),  # another node: a tunnel
               (town.net.pods["catalog-2"], "10.60.0.62"), (town.net.pods["catalog-2"], "fd60::62")]  # the same: attested
    rows = [("ALLOW", "values: [ '*.example' ]", {"api.example": True, "api.other": False, None: False}),
            ("ALLOW", "values: [ '*' ]", {"api.other": True, None: False}),
            ("ALLOW", "notValues: [ 'bad*' ]", {"api.example": True, "bad.example": False, None: True}),
            ("DENY", "values: [ bad.example ]", {"api.example": True, "BAD.example": False, None: True})]
    try:
        for place, address in callers:
            assert handshake(place, address, "api.example")
        for action, condition, names in rows:
            town.mesh.write("50-policy.yaml", policy(action, condition))
            town.mesh.settle()
            for place, address in callers:
                for name, passes in names.items():
                    wait_for(f"{place.name} to {address} as {name}: {action} {condition}",
                             lambda: handshake(place, address, name) == passes)
        said = town.agent("node-a").meshctl("explain", "shop/frontend", "secure:443", check=False).stdout
        assert "the rules ask for the TLS server name" in said, said
        # Whoever comes in the clear, too.
        stranger = town.net.pods["stranger"]
        direct = ("openssl", "s_client", "-connect", f"{town.payments.ip4}:{TLS_PORT}", "-servername")
        assert "BEGIN CERT" in stranger.run(*direct, "api.example", check=False).stdout
        assert "BEGIN CERT" not in stranger.run(*direct, "bad.example", check=False).stdout
        assert town.agent("node-b").metric("weft_drops_total", reason="policy_deny") > 0
        # What is HTTP is not touched by it.
        assert get(town.frontend, "http://10.60.0.30/").status == 200
    finally:
        server.stop()
