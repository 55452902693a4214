# SPDX-License-Identifier: Apache-2.0
"""WebSockets of which one end has said all it has to say: the other goes on. By HTTP/1 and HTTP/2, through the caller's helper
alone and through that of a pod with rules on requests too."""
import json
import os

import pytest

from lib import web
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.traffic import PYTHON
from lib.web import get

# payments and catalog-2 are on the other node, catalog-1 on the caller's; catalog has rules on requests.
PLACES = {"10.60.0.30": "payments", "fd60::30": "payments", "10.60.0.81": "catalog-1", "10.60.0.82": "catalog-2",
          "fd60::82": "catalog-2"}
MORE = (service("near", "shop", [("http", 80, 8080, "TCP")], ["10.60.0.81", "fd60::81"], app="catalog, version: v1")
        + service("far", "shop", [("http", 80, 8080, "TCP")], ["10.60.0.82", "fd60::82"], app="catalog, version: v2"))
RULE = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: catalog, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  rules: [ { to: [ { operation: { notPaths: [ /secret ] } } ] } ]
"""
CLIENT = """
import socket, sys
address, half, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
sock = socket.create_connection((address, 80), 90)
sock.settimeout(90)
sock.sendall(f"GET /ws?half={half} HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n".encode())
def rest(got):
    while data := sock.recv(65536):
        got += data
    return got
got = b""
while b"\\r\\n\\r\\n" not in got:
    got += sock.recv(65536)
head, _, got = got.partition(b"\\r\\n\\r\\n")
if half == "server":
    got = rest(got)
sock.sendall(b"x" * size)
sock.shutdown(socket.SHUT_WR)
print(rest(got).decode())
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("halves")) as net:
        made = web.build(net, more=MORE)
        made.mesh.write("30-rule.yaml", RULE)
        made.mesh.settle()
        yield made


def url(address):
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


def by_http_1(town, address, half, size):
    return town.frontend.run(PYTHON, "-c", CLIENT, address, half, size).stdout.strip()


def by_http_2(town, address, half, size):
    done = town.frontend.run(PYTHON, os.path.join(web.HERE, "h2client.py"), address, f"/ws?half={half}", "--websocket", size,
                             "--half", half)
    stream = json.loads(done.stdout)["streams"][0]
    assert stream["status"] == 200 and "reset" not in stream, stream
    return stream["text"]


@pytest.mark.parametrize("client", [by_http_1, by_http_2])
@pytest.mark.parametrize("address", PLACES)
def test_the_client_ends_its_half_first(town, address, client):
    assert client(town, address, "client", 300000) == "got 300000"


@pytest.mark.parametrize("client", [by_http_1, by_http_2])
@pytest.mark.parametrize("address", PLACES)
def test_the_server_ends_its_half_first(town, address, client):
    size = 300000 + list(PLACES).index(address) + 10 * (client is by_http_2)
    assert client(town, address, "server", size) == "hello"
    wait_for("the server to have got the rest", lambda: get(town.frontend, url(address)).json["half"] == size)
