# SPDX-License-Identifier: Apache-2.0
"""Applications that mean no good, at their pod's helper over HTTP: refused as the RFCs say and counted by reason, memory
and CPU bounded, requests of others on the same helper unharmed meanwhile."""
import json
import os
import subprocess
import threading

import pytest

from lib import web
from lib.net import Net
from lib.shell import sanitized, wait_for
from lib.traffic import PYTHON
from lib.web import get

ATTACK = os.path.join(web.HERE, "attack.py")
CALM, FLOW_CONTROL = 11, 3  # HTTP/2's error codes
MIB = 1 << 20


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("httphostile")) as net:
        made = web.build(net)
        for url in ("http://10.60.0.20/", "http://10.60.0.30/"):
            assert get(made.frontend, url).status == 200
        yield made


@pytest.fixture
def unharmed(town):
    """Another pod of the same helper goes on calling; none of its requests fails."""
    agent = town.agent("node-a")
    before = agent.metric("istio_requests_total", source_workload="catalog-1")
    process = web.load_begin(town.catalog_1, "10.60.0.30", seconds=3600, connections=2)
    wait_for("the others to call", lambda: agent.metric("istio_requests_total", source_workload="catalog-1") > before + 5)
    yield
    seen = web.load_end(process)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
    assert seen["status"]["200"] >= 20, "the others stood still"


@pytest.fixture
def helper(town):
    """The same process at the end; whatever was held is let go."""
    agent = town.agent("node-a")
    pid = agent.helper_pid()
    yield agent
    assert agent.helper_pid() == pid
    wait_for("the attacker's connections to be gone", lambda: agent.metric("weft_helper_http_connections") <= 4)
    assert get(town.frontend, "http://10.60.0.20/").status == 200


def resident(agent):
    """What the helper has of its own: the page tables say."""
    with open(f"/proc/{agent.helper_pid()}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Rss:"))


def busy_ms(agent):
    """CPU of all threads of the helper."""
    total, path = 0, f"/proc/{agent.helper_pid()}/task"
    for task in os.listdir(path):
        with open(f"{path}/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e6


class Memory:
    """The most that the helper had while it was watched, above what it had at first."""

    def __init__(self, agent):
        self.agent, self.first, self.most, self.over = agent, resident(agent), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(0.05):
            self.most = max(self.most, resident(self.agent) - self.first)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def bounded(self, limit):
        assert self.most <= limit * (30 if sanitized() else 1), f"{self.most >> 10} KiB more"


def attack(town, kind, address="10.60.0.20", count=1):
    done = town.frontend.run(PYTHON, ATTACK, kind, address, count, timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


class Held:
    """An attack that goes on until it is told to end."""

    def __init__(self, town, kind, address, count):
        self.process = subprocess.Popen(town.frontend.command(PYTHON, ATTACK, kind, address, count),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.began = json.loads(self.process.stdout.readline())

    def end(self):
        out, _ = self.process.communicate("\n", timeout=600)
        return json.loads(out.splitlines()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["10.60.0.20", "fd60::20"])
def address(request):
    return request.param


# --- HTTP/2 ---

@pytest.mark.parametrize("kind", ["rapid_reset", "continuation", "ping", "settings", "window_update"])
def test_floods_end_their_connection(town, unharmed, helper, kind, address):
    before = helper.metric("weft_helper_http2_floods_total")
    with Memory(helper) as memory:
        seen = attack(town, kind, address)
    # a reset may overtake the GOAWAY of a peer that goes on sending
    assert seen["goaway"] == CALM or (seen["goaway"] is None and seen["end"] not in (None, "closed")), seen
    assert seen["end"] is not None, seen
    wait_for("the flood to be counted", lambda: helper.metric("weft_helper_http2_floods_total") == before + 1)
    memory.bounded(4 * MIB)


def test_a_rapid_reset_costs_less_than_being_served(town, helper):
    """20 attackers that each try 5,000 requests, against 5,000 requests that are served: a twentieth."""
    web.load(town.frontend, "10.60.0.20", requests=500)
    began = busy_ms(helper)
    web.load(town.frontend, "10.60.0.20", requests=5000)
    served = busy_ms(helper) - began
    began = busy_ms(helper)
    for _ in range(20):
        attack(town, "rapid_reset")
    assert busy_ms(helper) - began < served, (busy_ms(helper) - began, served)


def test_an_hpack_bomb_is_refused(town, unharmed, helper, address):
    before = [helper.metric(f"weft_helper_{name}_total") for name in ("http_head_too_large", "http2_floods")]
    with Memory(helper) as memory:
        seen = attack(town, "hpack_bomb", address)
    assert seen["goaway"] == CALM or seen["answered"] == 2 or seen["resets"], seen
    wait_for("it to be counted", lambda: [
        helper.metric(f"weft_helper_{name}_total") for name in ("http_head_too_large", "http2_floods")] != before)
    memory.bounded(8 * MIB)


def test_answers_that_nobody_takes_are_not_kept(town, unharmed, helper, address):
    """5 connections of 100 streams, of 400 KB each. From the own node, what one reading takes is kept of each; from the
    other one, the window of each stream of the tunnels."""
    with Memory(helper) as memory:
        with Held(town, "zero_window", address, 5) as held:
            assert held.began["answered"] >= 300
        wait_for("them to go", lambda: helper.metric("weft_helper_http_connections") <= 4)
    memory.bounded(110 * MIB)


def full(agent):
    """A condition: what the helper's connections hold has stopped growing."""
    seen = [0]

    def check():
        seen.append(agent.metric("weft_helper_buffer_bytes"))
        return seen[-1] >= 4 * MIB and seen[-1] == seen[-2]
    return check


@pytest.mark.parametrize("address", ["10.60.0.30", "fd60::30"])
def test_unread_answers_leave_their_tunnel_to_others(town, unharmed, helper, address):
    """40 connections whose answers of 16 MiB are not read, over the same tunnels as those of the same pod that go on."""
    agent = town.agent("node-b")
    with Memory(helper) as memory, Memory(agent) as beyond:
        with Held(town, "unread", address, 40) as held:
            assert held.began == {"answers": 40}
            wait_for("all windows to be used", full(helper), every=0.3)
            seen = web.load(town.frontend, address, requests=400, connections=8)
            assert seen["failed"] == 0 and seen["status"] == {"200": 400}, seen
            much = get(town.frontend, "http://%s/?size=16000000" % (f"[{address}]" if ":" in address else address))
            assert much.status == 200 and len(much.body) == 16000000
            assert held.end() == {"whole": 40}
    memory.bounded(80 * MIB)
    beyond.bounded(80 * MIB)


def test_windows_that_overflow(town, unharmed, helper, address):
    before = helper.metric("weft_helper_http2_protocol_errors_total")
    seen = attack(town, "window_overflow", address)
    assert seen["0"]["goaway"] == FLOW_CONTROL, seen
    assert seen["1"]["resets"] == [FLOW_CONTROL] or seen["1"]["goaway"] == FLOW_CONTROL, seen
    wait_for("the error to be counted", lambda: helper.metric("weft_helper_http2_protocol_errors_total") > before)


# --- HTTP/1 ---

def test_slow_heads_are_ended(town, unharmed, helper):
    before = helper.metric("weft_helper_http_head_timeout_total")
    with Memory(helper) as memory:
        seen = attack(town, "slow_head", count=500)
    assert seen["ended"] == 500 and seen["first"] >= 9, seen
    assert set(seen["statuses"]) <= {"408", ""}, seen
    assert helper.metric("weft_helper_http_head_timeout_total") == before + 500
    memory.bounded(500 * 32 << 10)


def test_slow_bodies_harm_nobody(town, unharmed, helper):
    with Memory(helper) as memory:
        seen = attack(town, "slow_body", count=200)
    assert seen["ended"] == 0, seen  # nothing forbids them; they hold what they need
    memory.bounded(200 * 64 << 10)


def test_a_head_without_an_end_is_refused(town, unharmed, helper, address):
    before = helper.metric("weft_helper_http_head_too_large_total")
    with Memory(helper) as memory:
        seen = attack(town, "big_head", address)
    assert seen["sent"] < 16 * MIB and seen["answer"] in ("HTTP/1.1 431", ""), seen
    assert helper.metric("weft_helper_http_head_too_large_total") == before + 1
    memory.bounded(4 * MIB)


def test_many_idle_connections_are_cheap(town, unharmed, helper):
    count = 2000 if sanitized() else 10000
    with Memory(helper) as memory:
        with Held(town, "idle", "10.60.0.20", count) as held:
            assert held.began == {"answers": count}
            assert get(town.frontend, "http://10.60.0.20/").status == 200
            assert held.end() == {"again": count // 100, "asked": count // 100}
    memory.bounded(count * 4 << 10)


def test_chunks_of_one_byte(town, unharmed, helper, address):
    with Memory(helper) as memory:
        seen = attack(town, "chunks", address, 200000)
    assert seen == {"status": "200", "body": 200000}
    memory.bounded(4 * MIB)


def test_a_pipeline_that_is_not_read(town, unharmed, helper, address):
    with Memory(helper) as memory:
        with Held(town, "pipeline", address, 10000) as held:
            assert get(town.frontend, "http://10.60.0.20/").status == 200
            assert held.end() == {"answers": 10000}
    memory.bounded(4 * MIB)


def test_clients_that_leave_early(town, unharmed, helper, address):
    upstream = helper.metric("weft_helper_upstream_connections")
    with Memory(helper) as memory:
        assert attack(town, "early", address, 1000) == {"done": 1000}
        wait_for("them to be forgotten", lambda: helper.metric("weft_helper_http_connections") <= 4)
    memory.bounded(64 * MIB)
    wait_for("upstream connections to end", lambda: helper.metric("weft_helper_upstream_connections") <= upstream + 64)
