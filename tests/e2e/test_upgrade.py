# SPDX-License-Identifier: Apache-2.0
"""Agents and helpers that are replaced under all kinds of load: nothing fails, nothing is reset."""
import os
import signal

import pytest

from lib import rpc, web
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.traffic import PYTHON

# by the port's name HTTP or plain TCP, to the caller's node and to the other
SERVICES = (service("near", "shop", [("http", 80, 8080, "TCP"), ("tcp-raw", 81, 8080, "TCP"),
                                     ("grpc", 82, rpc.PORT, "TCP")],
                    ["10.60.0.81", "fd60::81"], app="catalog, version: v1")
            + service("far", "shop", [("http", 80, 8080, "TCP"), ("tcp-raw", 81, 8080, "TCP"),
                                      ("grpc", 82, rpc.PORT, "TCP")], ["10.60.0.82", "fd60::82"], app="payments"))
HOSTS = ["10.60.0.81", "10.60.0.82", "[fd60::82]"]
# A WebSocket whose every word comes back, until SIGTERM; then how many did.
TALK = """
import signal, socket, sys
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
sock = socket.create_connection((sys.argv[1].strip("[]"), int(sys.argv[2])), 90)
sock.settimeout(90)
sock.sendall(b"GET /ws HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n")
got = b""
while b"\\r\\n\\r\\n" not in got:
    got += sock.recv(65536)
assert b" 101 " in got, got
print("up", flush=True)
rounds = 0
while not over:
    sock.sendall(b"word")
    answer = b""
    while len(answer) < 4:
        more = sock.recv(4 - len(answer))
        assert more, "ended"
        answer += more
    rounds += 1
    signal.sigtimedwait([signal.SIGUSR1], 0.02)
print("said", rounds, flush=True)
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("upgrade")) as net:
        made = web.build(net, more=SERVICES)
        for name in ("catalog-1", "payments"):
            rpc.serve(net.pods[name])
        made.mesh.settle()
        yield made


class Load:
    """Requests, WebSockets, relayed bytes, streams of gRPC and downloads, all under way."""

    def __init__(self, town):
        place = town.frontend
        self.requests = [web.load_begin(place, host.strip("[]"), seconds=600, connections=2) for host in HOSTS]
        self.talks = [place.spawn(PYTHON, "-c", TALK, host, port, name="talk") for host in HOSTS for port in (80, 81)]
        self.chats = [rpc.begin(place, f"{host}:82", "Chat", stream=400, interval=0.02, timeout=300) for host in HOSTS]
        self.downloads = [place.spawn("curl", "-sS", "--limit-rate", "4M", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                                      f"http://{host}:{port}/?size=40000000", name="download")
                          for host in HOSTS for port in (80, 81)]
        for talk in self.talks:
            talk.wait_output("up")

    def end(self):
        for process in self.requests + self.talks:
            process.signal(signal.SIGTERM)
        for process in self.requests:
            seen = web.load_end(process)
            assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
        for process in self.talks:
            process.popen.wait(180)
            assert "said" in process.output(), process.output()
        for process in self.chats:
            seen = rpc.end(process)
            assert seen["status"] == "OK" and len(seen["messages"]) == 400, (seen["status"], seen["details"])
        for process in self.downloads:
            process.popen.wait(180)
            assert process.output() == "200 40000000", process.output()


def started(agent):
    return agent.api("/v1/status")["helper"]["pid"]


@pytest.mark.parametrize("nodes", [("node-a", "node-b"), ("node-b", "node-a")], ids=["caller-first", "server-first"])
def test_agents_that_are_replaced_one_after_the_other(town, nodes):
    load = Load(town)
    for name in nodes:
        agent = town.agent(name)
        old = started(agent)
        agent.kill(signal.SIGTERM)
        agent.start()
        assert started(agent) != old
        assert os.path.exists(f"/proc/{old}"), "it carries what it had"
    load.end()


def test_agents_that_die_again_and_again(town):
    load = Load(town)
    for _ in range(2):
        for agent in town.mesh.agents.values():
            agent.kill()
            agent.start()
    load.end()


def test_helpers_that_are_replaced_by_a_setting(town):
    load = Load(town)
    for threads in (1, 3):
        old = [started(agent) for agent in town.mesh.agents.values()]
        town.mesh.write("10-mesh.yaml", f"trustDomain: cluster.local\nweft: {{ helper: {{ threads: {threads} }} }}\n")
        town.mesh.settle()
        for agent, pid in zip(town.mesh.agents.values(), old):
            wait_for("another helper", lambda a=agent, p=pid: started(a) not in (None, 0, p))
            wait_for("it to be ready", lambda a=agent: a.api("/v1/status")["helper"]["ready"])
    load.end()


def test_a_pod_that_leaves_the_mesh_and_comes_back_fails_no_request(town):
    load = web.load_begin(town.frontend, "10.60.0.20", seconds=120, connections=4)
    config = web.base_config(town.net) + SERVICES
    entries = config.split("---\n")
    others = [entry for entry in entries if "name: catalog-2" not in entry]
    assert len(others) == len(entries) - 1
    for _ in range(8):
        for part in (others, entries):
            town.mesh.write("00-workloads.yaml", "---\n".join(part))
            town.mesh.settle()
    seen = web.load_end(load)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
    wait_for("both to serve again", lambda: {web.get(town.frontend, "http://10.60.0.20/").name for _ in range(10)}
             == {"catalog-1", "catalog-2"})


@pytest.mark.parametrize("setting", ["drainTimeout: 2s", "draining: 1"])
def test_what_drains_has_its_bounds(town, setting):
    agent = town.agent("node-a")
    talk = town.frontend.spawn(PYTHON, "-c", TALK, "10.60.0.82", 81, name="talk")
    wait_for("a connection to be up", lambda: "up" in talk.output())
    try:
        for threads in (1, 3):
            old = started(agent)
            town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n"
                                            f"weft: {{ helper: {{ threads: {threads}, {setting} }} }}\n")
            wait_for("another helper", lambda p=old: started(agent) not in (None, 0, p))
            wait_for("it to be ready", lambda: agent.api("/v1/status")["helper"]["ready"])
        wait_for("the connection to end", lambda: not talk.alive(), 30)
        assert "said" not in talk.output()
    finally:
        town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        town.mesh.settle()
