# SPDX-License-Identifier: Apache-2.0
"""Strangers on the network: refused or harmless, counted, memory flat, others unharmed."""
import os
import re

import pytest

from lib.shell import run, sanitized, wait_for
from lib.traffic import PYTHON, call, held, hold

STRICT = ("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
          "metadata: { name: default, namespace: shop }\nspec: { mtls: { mode: STRICT } }\n")


@pytest.fixture(scope="module", autouse=True)
def strict(town):
    town.mesh.write("50-strict.yaml", STRICT)
    town.mesh.settle()


@pytest.fixture
def unharmed(town):
    """Whatever the test does, a tunnelled connection made before lives on and a new one works afterwards."""
    going = hold(town.frontend, "10.60.0.30", 7000, 3600)
    yield
    assert going.alive(), "a connection of others was harmed: " + going.output()
    going.stop()
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])


def script(place, text, *words):
    return place.run(PYTHON, "-c", text, *words, timeout=600, check=False)


SEND = """
import socket, sys, time
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = {'plain': b'GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n', 'garbage': bytes(range(256)) * 64,
        'hello': b'\\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xfc\\x03\\x03' + b'\\xff' * 512,
        'huge': b'\\x16\\x03\\x01\\xff\\xff' + b'a' * 65535, 'nothing': b''}[kind]
for i in range(50):
    s = socket.create_connection((host, port), 60)
    try:
        s.sendall(data)
        if kind == 'nothing': s.close(); continue
        s.settimeout(60)
        while s.recv(4096): pass
    except OSError: pass
    s.close()
print('done')
"""


@pytest.mark.parametrize("kind", ["plain", "garbage", "hello", "huge", "nothing"])
def test_bytes_that_are_no_tls_on_the_tunnel_port(town, unharmed, kind):
    agent = town.agent("node-b")
    before = agent.metric("weft_drops_total", reason="tls_handshake")
    for host in (town.payments.ip4, town.payments.ip6):
        assert "done" in script(town.stranger, SEND, kind, host, "15008").stdout
    wait_for("the refusals to be counted",
             lambda: agent.metric("weft_drops_total", reason="tls_handshake") >= before + 100)


def certificates(directory, uris, foreign=False, days=1, ca=None):
    """A key and a certificate with these URI SANs, by the mesh's CA or by a foreign one."""
    def path(name):
        return os.path.join(directory, name)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
        "-subj", "/O=foreign", "-keyout", path("foreign.key"), "-out", path("foreign.pem"))
    signer = (path("foreign.pem"), path("foreign.key")) if foreign else (
        os.path.join(ca, "root-cert.pem"), os.path.join(ca, "ca-key.pem"))
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/O=x",
        "-keyout", path("leaf.key"), "-out", path("leaf.csr"))
    with open(path("ext"), "w", encoding="ascii") as file:
        if uris:
            file.write("subjectAltName=" + ",".join(f"URI:{uri}" for uri in uris) + "\n")
        file.write("extendedKeyUsage=serverAuth,clientAuth\n")
    run("openssl", "x509", "-req", "-in", path("leaf.csr"), "-CA", signer[0], "-CAkey", signer[1], "-CAcreateserial",
        "-CAserial", path("serial"), "-extfile", path("ext"), "-days", str(days), "-out", path("leaf.pem"))
    return path("leaf.pem"), path("leaf.key")


HANDSHAKE = """
import socket, ssl, sys
host, cert, key, tls12 = sys.argv[1:5]
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
c.set_alpn_protocols(['h2'])
if cert: c.load_cert_chain(cert, key)
if tls12 == '12': c.maximum_version = ssl.TLSVersion.TLSv1_2
try:
    s = c.wrap_socket(socket.create_connection((host, 15008), 60))
    s.settimeout(60)
    s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + b'\\0\\0\\0\\4\\0\\0\\0\\0\\0')
    data = s.recv(4096)
    print('open' if data else 'closed')
except (OSError, ssl.SSLError) as e:
    print('closed', e)
"""

SPIFFE = "spiffe://cluster.local/ns/shop/sa/frontend"


@pytest.mark.parametrize("name,uris,foreign,days,reason", [
    ("foreign root", [SPIFFE], True, 1, "tls_untrusted"),
    ("foreign trust domain", ["spiffe://elsewhere/ns/shop/sa/frontend"], False, 1, "tls_identity"),
    ("two identities", [SPIFFE, "spiffe://cluster.local/ns/shop/sa/payments"], False, 1, "tls_identity"),
    ("no identity", [], False, 1, "tls_identity"),
    ("expired", [SPIFFE], False, -1, "tls_untrusted"),
])
def test_certificates_that_are_not_ours(town, unharmed, tmp_path, name, uris, foreign, days, reason):
    agent = town.agent("node-b")
    before = agent.metric("weft_drops_total", reason=reason)
    cert, key = certificates(str(tmp_path), uris, foreign, days, ca=town.mesh.ca)
    out = script(town.stranger, HANDSHAKE, town.payments.ip4, cert, key, "13").stdout
    assert out.startswith("closed"), (name, out)
    wait_for("the refusal to be counted", lambda: agent.metric("weft_drops_total", reason=reason) > before)


def test_no_certificate_and_old_tls_are_refused(town, unharmed, tmp_path):
    assert script(town.stranger, HANDSHAKE, town.payments.ip4, "", "", "13").stdout.startswith("closed")
    cert, key = certificates(str(tmp_path), [SPIFFE], ca=town.mesh.ca)
    assert script(town.stranger, HANDSHAKE, town.payments.ip4, cert, key, "12").stdout.startswith("closed")
    good = script(town.stranger, HANDSHAKE, town.payments.ip4, cert, key, "13").stdout
    assert good.startswith("open"), "the control: a good certificate gets in: " + good


FRAMES = """
import socket, ssl, struct, sys
host, cert, key, what = sys.argv[1:5]
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
c.set_alpn_protocols(['h2']); c.load_cert_chain(cert, key)
def frame(kind, flags, stream, body=b''):
    return struct.pack('>I', len(body))[1:] + bytes((kind, flags)) + struct.pack('>I', stream) + body
def text(value):
    return bytes((len(value),)) + value
def header(name, value):
    return b'\\x00' + text(name) + text(value)
def connect(stream, authority, *more):
    return frame(1, 4, stream, header(b':method', b'CONNECT') + header(b':authority', authority.encode()) + b''.join(more))
s = c.wrap_socket(socket.create_connection((host, 15008), 60)); s.settimeout(60)
s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + frame(4, 0, 0))
data = {
    'garbage': [bytes(range(256)) * 64] * 20,
    'ping': [frame(6, 0, 0, b'12345678') * 1000] * 400,
    'settings': [frame(4, 0, 0, struct.pack('>HI', 4, 65535)) * 1000] * 400,
    'reset': [b''.join(connect(2 * n + 1, host + ':7000') + frame(3, 0, 2 * n + 1, b'\\0\\0\\0\\x08')
                       for n in range(b, b + 100)) for b in range(0, 40000, 100)],
    'continuation': [frame(1, 0, 1, header(b':method', b'CONNECT'))] +
                    [frame(9, 0, 1, header(b'x', b'y' * 100)) * 100] * 400,
    'empty': [connect(1, host + ':7000')] + [frame(0, 0, 1) * 1000] * 400,
    'baggage': [connect(1, host + ':7000', header(b'baggage', b'k8s.namespace.name=shop,service.name=payments'),
                        header(b'forwarded', b'for=127.0.0.1'))],
    'elsewhere': [connect(1, '10.50.1.20:8080')],
    'meshport': [connect(1, host + ':15008')],
    'good': [connect(1, host + ':7000')],
}[what]
got = b''
def parsed(got):
    at, frames = 0, []
    while at + 9 <= len(got) and at + 9 + int.from_bytes(got[at:at + 3], 'big') <= len(got):
        size = int.from_bytes(got[at:at + 3], 'big')
        frames.append((got[at + 3], got[at + 9:at + 9 + size])); at += 9 + size
    return frames
try:
    for part in data:
        s.sendall(part)
    while len(got) < 100000:
        part = s.recv(65536)
        if not part: break
        got += part
        if what in ('good', 'baggage', 'elsewhere', 'meshport') and any(kind in (1, 7) for kind, body in parsed(got)): break
except (OSError, ssl.SSLError) as e:
    pass
status = ''
for kind, body in parsed(got):
    if kind == 1: # the index of HPACK's static table: 8 is 200, 11 is 400, 12 is 401? spelt out otherwise
        status = {0x88: '200', 0x8c: '400'}.get(body[0]) or body[2:5].decode('latin1')
    if kind == 7: status = status or 'goaway'
print(status or 'closed')
"""


def frames(town, directory, what, identity=SPIFFE):
    cert, key = certificates(str(directory), [identity], ca=town.mesh.ca)
    return script(town.stranger, FRAMES, town.payments.ip4, cert, key, what).stdout.strip()


@pytest.mark.parametrize("what", ["ping", "settings", "reset", "continuation", "empty"])
def test_http2_floods_end_the_connection_alone(town, unharmed, tmp_path, what):
    agent = town.agent("node-b")
    before, memory = agent.metric("weft_drops_total", reason="hbone_flood"), rss_kib(agent.helper_pid())
    assert frames(town, tmp_path, what) in ("closed", "goaway", "200")
    wait_for("the flood to be counted", lambda: agent.metric("weft_drops_total", reason="hbone_flood") > before)
    assert rss_kib(agent.helper_pid()) < memory + 4096


def test_http2_garbage_ends_the_connection(town, unharmed, tmp_path):
    agent = town.agent("node-b")
    before = agent.metric("weft_drops_total", reason="hbone_protocol")
    assert frames(town, tmp_path, "garbage") in ("closed", "goaway")
    wait_for("it to be counted", lambda: agent.metric("weft_drops_total", reason="hbone_protocol") > before)


def test_authority_must_be_the_pods_and_not_a_port_of_the_mesh(town, unharmed, tmp_path):
    assert frames(town, tmp_path, "good") == "200", "the control"
    assert frames(town, tmp_path, "elsewhere") == "400"
    assert frames(town, tmp_path, "meshport") in ("400", "401", "403", "503")


def test_forged_baggage_decides_nothing(town, unharmed, tmp_path):
    """An identity that policy refuses claims in its headers to be another: refused all the same."""
    town.mesh.write("51-deny.yaml", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                    "metadata: { name: only, namespace: shop }\nspec: { selector: { matchLabels: { app: payments } }, "
                    "action: ALLOW, rules: [ { from: [ { source: { namespaces: [ shop ] } } ] } ] }\n")
    town.mesh.settle()
    try:
        assert frames(town, tmp_path, "good") == "200"
        assert frames(town, tmp_path, "baggage", "spiffe://cluster.local/ns/elsewhere/sa/x") == "401"
    finally:
        town.mesh.remove("51-deny.yaml")
        town.mesh.settle()


FORGE = """
import socket, struct, sys
src, dst, sport, dport = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def total(data):
    if len(data) % 2: data += b'\\0'
    n = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    n = (n >> 16) + (n & 0xffff); n += n >> 16
    return ~n & 0xffff
tcp = struct.pack('>HHIIBBHHH', sport, dport, 1, 0, 5 << 4, 2, 65535, 0, 0)
pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack('>BBH', 0, 6, len(tcp))
tcp = tcp[:16] + struct.pack('>H', total(pseudo + tcp)) + tcp[18:]
ip = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, socket.inet_aton(src), socket.inet_aton(dst))
ip = ip[:10] + struct.pack('>H', total(ip)) + ip[12:]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for i in range(20): raw.sendto(ip + tcp, (dst, 0))
print('sent')
"""


def test_forged_source_address_gets_no_identity(town, unharmed):
    """A pod with a raw socket pretends to be frontend towards catalog on the same node: anonymous, so refused."""
    agent = town.agent("node-a")
    before = agent.metric("weft_drops_total", reason="mtls_required")
    out = script(town.node_a, FORGE, town.frontend.ip4, town.catalog_1.ip4, "31500", "8080")
    assert "sent" in out.stdout, out.stderr
    wait_for("the forged SYNs to be refused", lambda: agent.metric("weft_drops_total", reason="mtls_required") > before)
    listing = town.catalog_1.run("ss", "-Htn", "sport", "=", ":8080").stdout
    assert ":31500" not in listing


def test_port_scan_finds_only_refusals(town, unharmed):
    scan = ("import socket,sys\nopen_=[]\n"
            "for port in list(range(1,2000))+[7000,7001,7002,8080,15001,15006,15008,15020]:\n"
            "    s=socket.socket(); s.settimeout(60)\n"
            "    if s.connect_ex((sys.argv[1],port))==0: open_.append(port)\n"
            "    s.close()\n"
            "print(open_)")
    out = script(town.stranger, scan, town.payments.ip4).stdout.strip()
    assert out == "[15008]", "only the tunnel's port answers, and it wants a certificate"


def test_mesh_listeners_are_not_reachable_from_outside(town, unharmed):
    listeners = town.payments.run("ss", "-Htlun").stdout.split()
    ports = {int(word.rsplit(":", 1)[1]) for word in listeners if re.search(r":\d+$", word)}
    for port in sorted(ports - {7000, 7001, 7002, 15008}):
        for address in (town.payments.ip4, town.payments.ip6):
            seen = call(town.stranger, address, port, timeout=1)
            assert not seen["ok"] and seen["error"] in ("ECONNREFUSED", "ETIMEDOUT"), (port, seen)


def test_syn_flood_leaves_memory_flat_and_others_served(town, unharmed):
    agent = town.agent("node-b")
    before = rss_kib(agent.process.pid), rss_kib(agent.helper_pid())
    text = FORGE.replace("range(20)", "range(20000)")
    script(town.node_b, text, "10.50.2.77", town.payments.ip4, "31500", "7000")
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    after = rss_kib(agent.process.pid), rss_kib(agent.helper_pid())
    assert after[0] < before[0] + 2048 and after[1] < before[1] + 2048, (before, after)


IDLE = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
n = int(sys.argv[3]); held = []
for i in range(n):
    held.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), 60))
print('held', flush=True)
time.sleep(600)
"""


def test_ten_thousand_idle_connections_cost_little(town):
    """10,000 through the tunnel: at most 5 KiB of the helper's memory each, on either side, with room for noise."""
    agents = [town.agent("node-a"), town.agent("node-b")]
    before = [rss_kib(agent.helper_pid()) for agent in agents]
    idle = town.frontend.spawn(PYTHON, "-c", IDLE, "10.60.0.30", "7000", "10000", name="idle")
    idle.wait_output("held", 600)
    each = [(rss_kib(agent.helper_pid()) - was) / 10000 for agent, was in zip(agents, before)]
    assert max(each) < (30 if sanitized() else 6), f"KiB of helper memory for an idle connection: {each}"
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    idle.stop()
    wait_for("the connections to end", lambda: agents[1].metric("weft_helper_inbound_connections") < 10)


def test_slow_reader_is_held_back_not_buffered(town, unharmed):
    """The client sends without end, the server echoes, the client never reads: both helpers stay small."""
    agents = [town.agent("node-a"), town.agent("node-b")]
    before = [rss_kib(agent.helper_pid()) for agent in agents]
    text = ("import socket,time,sys\ns=socket.create_connection(('10.60.0.30',7000)); s.setblocking(False)\n"
            "n=0; end=time.time()+4\n"
            "while time.time()<end:\n"
            "    try: n+=s.send(b'x'*65536)\n"
            "    except BlockingIOError: time.sleep(0.01)\n"
            "print(n)")
    sent = int(script(town.frontend, text).stdout)
    after = [rss_kib(agent.helper_pid()) for agent in agents]
    assert sent > 1 << 20
    assert all(now - was < (65536 if sanitized() else 16384) for was, now in zip(before, after)), (before, after)
    assert held(hold(town.frontend, "10.60.0.30", 7000, 1))


def test_helper_is_in_its_sandbox(town):
    pid = town.agent("node-b").helper_pid()
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert os.listdir(f"/proc/{pid}/root") == []
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        core = next(line for line in file if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
