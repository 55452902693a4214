# SPDX-License-Identifier: Apache-2.0
"""The places: two nodes, a client pod and a server pod on the first, a server pod on the second.

    node-a: a1 (client), a2 (server "samenode")          node-b: b1 (server "hbone")
"""
import os
import resource
import shutil
import tempfile

from e2e.lib.net import Net
from e2e.lib.shell import BUILD

from . import load, reaper

NODES = ("node-a", "node-b")
# Ports in TIME_WAIT make connect() search for a free one, slower with each connection of the runs before.
POD_SYSCTLS = ("net.ipv4.tcp_max_tw_buckets=256",)


def raise_file_limit():
    """As a systemd unit would have it; 10,000 connections are more than a shell's default. Not every root may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (1 << 20, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            return
        except (ValueError, OSError):
            continue


class Bench:
    """A context manager: servers run, nothing meshes them yet."""

    def __init__(self, family=4):
        self.family = family
        self.directory = tempfile.mkdtemp(prefix="weft-bench-")
        self.net = Net(self.directory)
        self.guard = reaper.guard(self.net.prefix, self.directory, also=[
            [os.path.join(BUILD, "weftd"), "cleanup", "--instance", f"{self.net.prefix}-{node}"] for node in NODES])
        raise_file_limit()

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self):
        for node in NODES:
            self.net.node(node)
        self.client = self.net.pod("a1", "node-a", 11)
        self.servers = {"samenode": self.net.pod("a2", "node-a", 12), "hbone": self.net.pod("b1", "node-b", 21)}
        for pod in self.net.pods.values():
            pod.run("sysctl", "-qw", *POD_SYSCTLS)
        for pod in self.servers.values():
            load.serve(pod)

    def __exit__(self, *_):
        self.net.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def server(self, name):
        return self.servers[name]

    def address(self, name):
        pod = self.servers[name]
        return pod.ip4 if self.family == 4 else pod.ip6

    def path(self, *words):
        return os.path.join(self.directory, *words)
