# SPDX-License-Identifier: Apache-2.0
"""What is compared: a way from the client pod to the servers. `Direct`, without any mesh, is the simplest."""
from .load import client


class Missing(Exception):
    """This candidate can't run here; the text says why and what to do."""


class Candidate:
    """All candidates use the same pods and servers; only the active one touches their traffic."""

    name = ""

    def __init__(self, bench):
        self.bench = bench

    def activate(self):
        """Takes over the traffic of the client pod."""

    def deactivate(self):
        """Lets go of it."""

    def restart(self):
        """Fresh processes, for measurements of memory."""

    def target(self, server, port):
        """Where the client connects to reach `port` of a server pod: (address, port)."""
        return self.bench.address(server), port

    def pids(self):
        """The processes whose CPU time is the mesh's."""
        return []

    def proxies(self):
        """The processes {"client": pid, "server": pid} that carry the traffic beside either pod; {}: none."""
        return {}

    def verify(self, server):
        """Raises Failed when the traffic to `server` did not take the way that is to be measured."""

    def warm(self, server, port):
        """One short exchange, so that pools and caches are as in steady state."""
        client(self.bench.client, "rr", self.target(server, port), seconds=0.05)


class Direct(Candidate):
    name = "direct"
