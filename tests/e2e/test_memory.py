# SPDX-License-Identifier: Apache-2.0
"""What agent and helper have resident when there is nothing to do: before any traffic, and again after it."""
from lib.shell import sanitized, wait_for
from lib.traffic import call

AGENT_MAX, HELPER_MAX, BOTH_MAX = 9 << 20, 6 << 20, 15 << 20


def resident(pid):
    """Bytes, from the page tables: the counters in /proc/PID/status are approximate."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Rss:"))


def small(agent):
    sizes = resident(agent.process.pid), resident(agent.helper_pid())
    scale = 40 if sanitized() else 1
    text = "agent %d KiB, helper %d KiB" % tuple(size >> 10 for size in sizes)
    if sizes[0] > AGENT_MAX * scale or sizes[1] > HELPER_MAX * scale or sum(sizes) > BOTH_MAX * scale:
        raise ValueError(text)
    return text


def test_idle_agent_and_helper_are_small(town):
    for agent in town.mesh.agents.values():
        wait_for("agent and helper to be small", lambda a=agent: small(a))


def test_agent_and_helper_are_small_again_after_traffic(town):
    for _ in range(20):
        assert call(town.frontend, "10.60.0.30", 7000, send="x" * 65536)["ok"]
    for agent in town.mesh.agents.values():  # the helper gives memory back five to ten seconds after its last byte
        agent.metrics()
        wait_for("agent and helper to be small again", lambda a=agent: small(a))
