# SPDX-License-Identifier: Apache-2.0
"""Servers that break off, hang, come and go; helpers and agents that are killed, configuration that goes away: what the
clients see of it."""
import json
import os
import signal
import time

import pytest

from lib import web
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.traffic import PYTHON
from lib.web import get, load

CUT = 9100
# near: the caller's node; far: the other one
MORE = (service("near", "shop", [("http", 80, CUT, "TCP")], ["10.60.0.81", "fd60::81"], app="catalog, version: v1")
        + service("far", "shop", [("http", 80, CUT, "TCP")], ["10.60.0.82", "fd60::82"], app="payments"))
PLACES = {"near": "10.60.0.81", "far": "10.60.0.82"}


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("httpfault")) as net:
        made = web.build(net, more=MORE)
        for name in ("catalog-1", "payments"):
            net.pods[name].spawn(PYTHON, os.path.join(web.HERE, "cutserver.py"), CUT, "--name", name,
                                 name=f"cut-{name}").wait_output("listening")
        yield made


def rule(host, http):
    return (f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {host}, namespace: shop }}\n"
            f"spec: {{ hosts: [ {host} ], http: [ {{ {http}, route: [ {{ destination: {{ host: {host} }} }} ] }} ] }}\n---\n")


def cut(town, place, first, last, query):
    done = town.frontend.run(PYTHON, os.path.join(web.HERE, "cutclient.py"), PLACES[place], first, last, query)
    return json.loads(done.stdout)


def lengths(town, place, chunked):
    """Of the answer, and of its head."""
    answer = get(town.frontend, f"http://{PLACES[place]}/lengths")
    name = answer.name
    whole = int(answer.body.split()[1 if chunked else 0])
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 10"
    return whole, len(f"HTTP/1.1 200 OK\r\n{framing}\r\nX-Server: {name}\r\n\r\n")


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_cut_at_each_byte(town, documents, place, how, chunked):
    """No byte of a cut answer passes as a whole one."""
    documents(rule(place, "retries: { attempts: 0 }"))
    whole, head = lengths(town, place, chunked)
    seen = cut(town, place, 0, whole + 1, f"how={how}" + ("&chunked=1" if chunked else ""))
    for at, status in seen:
        # a reset may take along what was sent before it
        allowed = {"503"} if at < head else {"200!"} if at < whole else {"200"}
        if how == "rst" and at >= head:
            allowed |= {"503", "200!"}
        assert status in allowed, (at, status, head, whole)


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_cut_head_is_tried_again(town, documents, place, how):
    documents(rule(place, "retries: { attempts: 2, retryOn: reset }"))
    _, head = lengths(town, place, False)
    seen = cut(town, place, 0, head, f"how={how}&key={place}-{how}-{{at}}")
    assert [status for _, status in seen] == ["200"] * head, seen


@pytest.mark.parametrize("place", list(PLACES))
def test_a_server_that_ends_its_half_after_an_answer(town, documents, place):
    """Its connection is not used for the next request."""
    documents(rule(place, "retries: { attempts: 0 }"))
    for _ in range(30):
        assert get(town.frontend, f"http://{PLACES[place]}/quiet").status == 200


@pytest.mark.parametrize("place", list(PLACES))
def test_a_server_that_hangs_is_let_go(town, documents, place):
    destination = f"route: [ {{ destination: {{ host: {place} }} }} ]"
    documents(rule(place, f"match: [ {{ uri: {{ exact: /hang }} }} ], timeout: 300ms, retries: {{ attempts: 0 }}, {destination} }}, "
                          "{ timeout: 60s"))
    url = f"http://{PLACES[place]}"
    before = int(get(town.frontend, url + "/hung").body)
    assert [get(town.frontend, url + "/hang").status for _ in range(3)] == [504] * 3
    wait_for("its connections to be ended", lambda: int(get(town.frontend, url + "/hung").body) == before + 3)


# --- servers that come and go ---

RETRIES = rule("catalog", "retries: { attempts: 3, retryOn: 'connect-failure,refused-stream,reset' }")


class Server:
    """The web server of a pod, which web.build() started."""

    def __init__(self, town, name):
        self.pod = town.net.pods[name]
        self.process = next(p for p in reversed(town.net.processes) if p.name == f"web-{name}" and p.alive())

    def kill(self):
        self.process.signal(signal.SIGKILL)
        self.process.popen.wait(60)

    def start(self):
        self.process = web.serve(self.pod)


@pytest.mark.parametrize("name", ["catalog-1", "catalog-2"])
def test_a_server_that_flaps_is_not_seen_where_retries_allow(town, documents, name):
    documents(RETRIES)
    server = Server(town, name)
    process = web.load_begin(town.frontend, "10.60.0.20", seconds=600, connections=4)
    for _ in range(3):
        time.sleep(0.5)
        server.kill()
        time.sleep(0.5)
        server.start()
    wait_for("it to be used again", lambda: get(town.frontend, "http://10.60.0.20/").name == name)
    seen = web.load_end(process)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
    assert set(seen["server"]) == {"catalog-1", "catalog-2"}


def test_a_dead_server_is_ejected_and_taken_back(town, documents):
    documents(RETRIES + "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: catalog, namespace: shop }\n"
              "spec: { host: catalog, trafficPolicy: { outlierDetection: { consecutiveGatewayErrors: 3, interval: 1s, "
              "baseEjectionTime: 2s, maxEjectionPercent: 100 } } }\n")
    agent = town.agent("node-a")
    assert set(load(town.frontend, "10.60.0.20", requests=100)["server"]) == {"catalog-1", "catalog-2"}
    before = agent.metric("weft_helper_outlier_ejections_total")
    server = Server(town, "catalog-2")
    server.kill()
    try:
        def ejected():
            assert load(town.frontend, "10.60.0.20", requests=20)["status"] == {"200": 20}
            return agent.metric("weft_helper_outlier_ejected_endpoints") == 1
        wait_for("the dead one to be ejected", ejected)
        assert agent.metric("weft_helper_outlier_ejections_total") > before
    finally:
        server.start()
    wait_for("it to be taken back", lambda: "catalog-2" in load(town.frontend, "10.60.0.20", requests=20)["server"])
    wait_for("it to be in use for good", lambda: agent.metric("weft_helper_outlier_ejected_endpoints") == 0)


# --- rules that come ---

DENY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  action: DENY
  rules: [ { to: [ { operation: { paths: [ /denied ] } } ] } ]
"""


def test_rules_hold_for_connections_that_were_there_before(town, documents):
    """A caller's pooled connections to a pod of its own node were not brought to its helper when they were made."""
    assert load(town.frontend, "10.60.0.20", path="/denied", requests=200, connections=8)["status"] == {"200": 200}
    documents(DENY)
    wait_for("the rule to be in force", lambda: get(town.frontend, "http://10.60.0.20/denied").status == 403)
    # streams from the other node end between two requests, within five seconds (base/turn.h)
    wait_for("all connections to obey it", lambda: load(
        town.frontend, "10.60.0.20", path="/denied", requests=200, connections=8)["status"] == {"403": 200})


TOKENS = """apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: jwt, namespace: shop }
spec:
  selector: { matchLabels: { app: APP } }
  jwtRules:
  - issuer: a.example
    jwks: '{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}'
"""


@pytest.mark.parametrize("app,address", [("catalog", "10.60.0.20"), ("payments", "10.60.0.30")])
def test_tokens_are_looked_at_on_connections_that_were_there_before(town, documents, app, address):
    """Rules that no rule for L4 stands for, so that nothing else would cut the connections."""
    header = "Authorization: Bearer a.b.c"
    assert load(town.frontend, address, header=header, requests=200, connections=8)["status"] == {"200": 200}
    documents(TOKENS.replace("APP", app))
    wait_for("the rule to be in force",
             lambda: get(town.frontend, f"http://{address}/", headers={"Authorization": "Bearer a.b.c"}).status == 401)
    wait_for("all connections to obey it", lambda: load(
        town.frontend, address, header=header, requests=200, connections=8)["status"] == {"401": 200})


# --- helpers, agents and configuration that go ---

def under_load(town, act):
    """A load from node-a on servers of both nodes while act() runs; what it saw."""
    process = web.load_begin(town.frontend, "10.60.0.20", seconds=600, connections=4)
    time.sleep(1)
    act()
    time.sleep(1)
    return web.load_end(process)


@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_a_killed_helper_is_back_under_load(town, node):
    agent = town.agent(node)

    def kill():
        pid = agent.helper_pid()
        os.kill(pid, signal.SIGKILL)
        wait_for("a new helper", lambda: agent.helper_pid() not in (None, 0, pid))
        for url in ("http://10.60.0.81/", "http://10.60.0.82/", "http://[fd60::81]/", "http://[fd60::82]/"):
            wait_for(f"an answer of {url}", lambda u=url: get(town.frontend, u).status == 200)
    seen = under_load(town, kill)
    # what it carried is lost, once a connection
    assert seen["failed"] + sum(count for status, count in seen["status"].items() if status != "200") <= 12, seen
    assert seen["status"]["200"] > 20
    assert load(town.frontend, "10.60.0.20", requests=100)["status"] == {"200": 100}


@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_a_restarted_agent_fails_no_request(town, node):
    agent = town.agent(node)

    def restart():
        for _ in range(2):
            agent.kill()
            time.sleep(0.3)
            agent.start()
            # A caller's agent that dies before its helper was asked for anything leaves one that knows no services.
            wait_for("calls by the new helper", lambda: node == "node-b" or agent.metric("istio_requests_total") >= 20)
    seen = under_load(town, restart)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
    assert set(seen["server"]) == {"catalog-1", "catalog-2"}


def test_configuration_that_is_deleted_fails_no_request(town, documents):
    subsets = ("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: catalog, namespace: shop }\n"
               "spec: { host: catalog, subsets: [ { name: v1, labels: { version: v1 } } ] }\n---\n")

    def delete():
        for _ in range(5):
            documents(subsets + rule("catalog", "timeout: 5s").replace("host: catalog }", "host: catalog, subset: v1 }"))
            time.sleep(0.2)
            town.mesh.remove("21-test.yaml")
            town.mesh.settle()
            time.sleep(0.2)
    seen = under_load(town, delete)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
