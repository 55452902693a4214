# SPDX-License-Identifier: Apache-2.0
"""Nothing is dropped: agents and helpers that are killed, restarted, replaced and removed."""
import json
import os
import signal

import pytest

from lib import town as towns
from lib.shell import run, wait_for
from lib.traffic import call, call_words, churn, churned, held, hold


@pytest.fixture
def town(tmp_path):
    from lib.net import Net
    with Net(tmp_path) as made:
        yield towns.build(made)


def pins(agent):
    path = f"/sys/fs/bpf/weft/{agent.instance}"
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def test_killed_agent_leaves_direct_and_tunnelled_connections_working(town):
    direct = hold(town.frontend, "10.60.0.40", 80, 6)
    tunnel = hold(town.frontend, "10.60.0.30", 7000, 6)
    # the helper knows what it has been asked for before; a destination that is new to it has to wait for an agent
    assert call(town.frontend, "fd60::30", 7000)["ok"]
    for agent in town.mesh.agents.values():
        agent.kill()
    for vip, port in (("10.60.0.40", 80), ("fd60::40", 80), ("10.60.0.30", 7000), ("fd60::30", 7000)):
        assert call(town.frontend, vip, port)["ok"], f"a new connection to {vip} without agents"
    assert held(direct) and held(tunnel)


def test_killed_agent_leaves_the_last_policy_in_force(town):
    town.mesh.write("50.yaml", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
                               "metadata: { name: default, namespace: shop }\nspec: { mtls: { mode: STRICT } }\n")
    town.mesh.settle()
    for agent in town.mesh.agents.values():
        agent.kill()
    assert call(town.stranger, town.payments.ip4, 7000)["error"] == "ECONNREFUSED"
    assert call(town.frontend, "10.60.0.40", 80)["ok"]


def test_restarted_agent_takes_over_without_a_gap(town):
    lasting = [hold(town.frontend, "10.60.0.40", 80, 8), hold(town.frontend, "10.60.0.30", 7000, 8)]
    # without an agent, a helper knows the destinations that it was asked for before
    assert all(call(town.frontend, vip, port)["ok"] for vip, port in (("10.60.0.40", 80), ("10.60.0.30", 7000)))
    fresh = [churn(town.frontend, "10.60.0.40", 80, 6), churn(town.frontend, "10.60.0.30", 7000, 6)]
    agent = town.agent("node-a")
    helpers = []
    for _ in range(3):
        helpers.append(agent.helper_pid())
        agent.kill()
        agent.start()
    for process in fresh:
        seen = churned(process)
        assert seen["rounds"] > 20 and not seen["failed"], seen
    assert all(held(process) for process in lasting)
    for helper in helpers:
        wait_for("the old helper to end once it carries nothing", lambda h=helper: not os.path.exists(f"/proc/{h}"))


def helpers(agent):
    """Those that the agent knows of, by its own account."""
    status = agent.api("/v1/status")["helper"]
    return status["draining"], status["orphans"]


def test_destination_that_is_new_waits_for_the_next_agent(town):
    """Which the helper of the agent before asks, too: it has taken the connection."""
    agent = town.agent("node-a")
    agent.kill()
    calls = [town.frontend.spawn(*call_words(vip, 7000, timeout=30), name="waits") for vip in ("10.60.0.30", "fd60::30")]
    wait_for("both to be accepted, each end a line",
             lambda: len(town.frontend.run("ss", "-Htn", "state", "established").stdout.splitlines()) == 4)
    agent.start()
    for process in calls:
        process.popen.wait(90)
        assert json.loads(process.output().splitlines()[-1])["ok"], process.output()


def test_connection_of_an_earlier_agents_helper_lives_on_and_obeys(town):
    """Policies that changed while no agent was there, and later."""
    agent = town.agent("node-b")
    first = hold(town.frontend, "10.60.0.30", 7000, 600)
    second = hold(town.catalog_1, "10.60.0.30", 7000, 600)
    third = hold(town.stranger, town.payments.ip4, 7000, 10)
    for _ in range(2):
        agent.kill()
        agent.start()
        wait_for("its helper to be spoken with", lambda: helpers(agent) == (1, 0))
    town.mesh.write("50.yaml", deny("frontend"))
    assert not held(first)
    agent.kill()
    town.mesh.write("51.yaml", deny("catalog"))
    agent.start()
    assert not held(second)
    wait_for("the old helper to end", lambda: helpers(agent) == (0, 0))
    assert held(third)


def deny(account):
    return ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
            f"metadata: {{ name: not-{account}, namespace: shop }}\n"
            "spec:\n  selector: { matchLabels: { app: payments } }\n  action: DENY\n"
            f'  rules: [ {{ from: [ {{ source: {{ principals: [ "*/sa/{account}" ] }} }} ] }} ]\n')


def test_restarted_agent_removes_what_no_longer_exists(town):
    agent = town.agent("node-a")
    agent.kill()
    town.mesh.write("00-workloads.yaml", towns.base_config(town.net).replace("10.60.0.40", "10.60.0.41"))
    agent.start()
    assert call(town.frontend, "10.60.0.41", 80)["ok"]
    assert not call(town.frontend, "10.60.0.40", 80, timeout=1)["ok"]


def test_killed_helper_is_back_and_refuses_no_connection(town):
    agent = town.agent("node-a")
    direct = hold(town.frontend, "10.60.0.40", 80, 4)
    for _ in range(3):
        pid = agent.helper_pid()
        os.kill(pid, signal.SIGKILL)
        seen = call(town.frontend, "10.60.0.30", 7000)
        assert seen["ok"], seen
        assert seen["retransmitted"] == 0, "whoever connects meanwhile waits for the helper, and not for its own next try"
        wait_for("a new helper", lambda p=pid: agent.helper_pid() not in (None, 0, p))
    assert held(direct), "what the helper did not carry lives on"
    assert agent.metric("weft_helper_restarts_total") == 3


def test_agent_stopped_by_sigterm_leaves_the_data_path(town):
    agent = town.agent("node-a")
    agent.process.signal(signal.SIGTERM)
    assert agent.process.popen.wait(90) == 0
    assert call(town.frontend, "10.60.0.40", 80)["ok"]
    assert pins(agent)


def test_cleanup_leaves_nothing_behind(town):
    agent = town.agent("node-a")
    helper = agent.helper_pid()
    agent.process.signal(signal.SIGTERM)
    agent.process.popen.wait(90)
    from lib.shell import BUILD
    run(os.path.join(BUILD, "weftd"), "cleanup", "--instance", agent.instance, "--run-dir", agent.run_dir)
    assert not pins(agent)
    assert not os.path.exists(f"/sys/fs/bpf/weft/{agent.instance}")
    wait_for("its helper to end", lambda: not os.path.exists(f"/proc/{helper}"))
    assert call(town.frontend, town.catalog_1.ip4, 8080)["ok"], "plain networking is back"
    assert not call(town.frontend, "10.60.0.40", 80, timeout=1)["ok"], "and the service address is gone"


def test_enrolling_a_running_pod_keeps_its_connections(town):
    going = hold(town.stranger, town.payments.ip4, 7000, 5)
    from lib.mesh import namespace, workload
    town.mesh.write("60-late.yaml", namespace("late") + workload(town.stranger, "late", "stranger"))
    town.mesh.settle()
    wait_for("the stranger to be enrolled", lambda: call(town.stranger, "10.60.0.30", 7000)["ok"])
    assert held(going)


def test_pod_that_vanishes_is_forgotten_and_its_successor_enrolled(town):
    agent = town.agent("node-b")
    going = hold(town.frontend, "10.60.0.30", 7000, 600, timeout=10)
    name, netns = town.payments.name, town.payments.netns
    for process in town.net.processes:
        if process.name == "serve-payments":
            process.stop()
    town.payments.delete()
    assert not held(going)
    wait_for("the pod to be forgotten", lambda: agent.api("/v1/status")["pods"]["enrolled"] == 1)
    from lib import traffic
    pod = town.net.pod(name, "node-b", 30)
    assert pod.netns == netns
    traffic.serve(pod, 7000)
    wait_for("the new pod to be enrolled", lambda: agent.api("/v1/status")["pods"]["enrolled"] == 2)
    seen = call(town.frontend, "10.60.0.30", 7000)
    assert seen["ok"], seen
