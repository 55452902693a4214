# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 of applications: prior knowledge, many streams, trailers, bodies, priorities, WebSockets, and both versions
across."""
import hashlib
import json
import os

import pytest

from lib import rpc, web
from lib.mesh import service
from lib.net import Net
from lib.traffic import PYTHON
from lib.web import get

URLS = ["http://10.60.0.81/", "http://10.60.0.30/", "http://[fd60::81]/", "http://[fd60::30]/"]  # this node, the other
MORE = (service("near", "shop", [("http", 80, 8080, "TCP")], ["10.60.0.81", "fd60::81"], app="catalog, version: v1")
        + service("rpc", "shop", [("grpc", 80, rpc.PORT, "TCP")], ["10.60.0.70", "fd60::70"], app="payments"))
H2 = "--http2-prior-knowledge"


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("http2")) as net:
        made = web.build(net, more=MORE)
        rpc.serve(made.payments)
        yield made


def h2(town, url, path, *words):
    address = url.split("//")[1].strip("/[]")
    done = town.frontend.run(PYTHON, os.path.join(web.HERE, "h2client.py"), address, path, *words)
    return json.loads(done.stdout)


@pytest.mark.parametrize("url", URLS)
def test_prior_knowledge_to_an_http_1_server(town, url):
    for _ in range(3):
        answer = get(town.frontend, url + "x?y=1", H2, host="h2.example", headers={"X-A": "1"})
        assert answer.status == 200 and answer.json["version"] == "HTTP/1.1" and answer.json["target"] == "/x?y=1", answer
        assert answer.seen("host") == "h2.example" and answer.seen("x-a") == "1"


@pytest.mark.parametrize("url", URLS)
def test_streams_of_a_connection_do_not_wait_for_each_other(town, url):
    seen = h2(town, url, "/?delay=500", "--streams", 80, "--priority")
    assert [stream["status"] for stream in seen["streams"]] == [200] * 80
    assert seen["seconds"] < 0.5 * 80  # one after the other they take longer
    numbers = [dict(map(tuple, json.loads(stream["text"])["headers"]))["x-n"] for stream in seen["streams"]]
    assert numbers == [str(i) for i in range(80)]


@pytest.mark.parametrize("url", URLS)
def test_trailers_both_ways(town, url):
    seen = h2(town, url, "/?trailers=1", "--size", 1000, "--trailer", "x-sent:here")["streams"][0]
    assert seen["status"] == 200 and seen["trailers"] == [["x-trailer", "seen"]], seen
    told = json.loads(seen["text"])
    assert told["body"] == 1000 and ["x-sent", "here"] in [[k.lower(), v] for k, v in told["trailers"]]


@pytest.mark.parametrize("url", URLS[:2])
def test_large_bodies_both_ways(town, url):
    seen = h2(town, url, "/?size=5000000", "--streams", 4, "--slow")
    assert [(stream["status"], stream["body"]) for stream in seen["streams"]] == [(200, 5000000)] * 4
    seen = h2(town, url, "/", "--streams", 4, "--size", 5000000)
    assert [json.loads(stream["text"])["body"] for stream in seen["streams"]] == [5000000] * 4
    done = town.frontend.run("bash", "-c", f"curl -s {H2} --max-time 170 '{url}?size=20000000' | md5sum")
    assert done.stdout.split()[0] == hashlib.md5(b"x" * 20000000).hexdigest()


@pytest.mark.parametrize("url", URLS)
def test_websocket_over_http_2_becomes_an_upgrade(town, url):
    seen = h2(town, url, "/ws", "--websocket", 100000)["streams"][0]
    assert seen["status"] == 200 and seen["body"] == 100000 and "reset" not in seen, seen


@pytest.mark.parametrize("url", ["http://10.60.0.70", "http://[fd60::70]"])
def test_an_http_1_client_of_a_server_that_only_has_http_2(town, url):
    path = os.path.join(town.net.directory, "empty-message")
    with open(path, "wb") as file:
        file.write(bytes(5))
    answer = get(town.frontend, url + "/weft.test.Echo/Unary", "--raw", method="POST", data=f"@{path}",
                 headers={"Content-Type": "application/grpc", "TE": "trailers"})
    assert answer.status == 200 and answer.header("x-server") == "payments", answer
    assert "grpc-status: 0" in answer.body and "x-last: two" in answer.body
