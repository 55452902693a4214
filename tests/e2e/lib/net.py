# SPDX-License-Identifier: Apache-2.0
"""Nodes and pods: each a network namespace of its own, with unique names, removed at the end whatever happens.

    node-a [br0 10.50.1.1, fd50::1:1] --- wire --- [br0 10.50.2.1, fd50::2:1] node-b
      |  \\                                          |  \\
     pods 10.50.1.x                                pods 10.50.2.x

Nothing of it touches the machine's own network namespace.
"""
import os

from . import leftovers
from .shell import Failed, Process, ip, run

SYSCTLS = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
           "net.ipv4.conf.default.rp_filter=0")


class Place:
    """A network namespace in which commands run."""

    def __init__(self, net, name):
        self.net = net
        self.name = name
        self.netns = f"{net.prefix}-{name}"
        run("ip", "netns", "add", self.netns)
        net.places.append(self)
        ip([f"-n {self.netns} link set lo up"])
        for item in ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"):
            self.run("sysctl", "-qw", item)

    def command(self, *words):
        """The command line that runs `words` here. Not `ip netns exec`, which hides /sys/fs/bpf and the cgroups."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", "--", *[str(word) for word in words]]

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def spawn(self, *words, env=None, name=None):
        """Starts a background process here; it ends with the net."""
        return self.net.spawn(self.command(*words), env=env, name=name or f"{self.name}-{os.path.basename(words[0])}")


class Node(Place):
    def __init__(self, net, name, index):
        super().__init__(net, name)
        self.index = index
        self.ip4, self.ip6 = f"10.50.{index}.1", f"fd50::{index}:1"
        for item in SYSCTLS:
            self.run("sysctl", "-qw", item)
        ip([f"-n {self.netns} link add br0 type bridge mcast_snooping 0",
               f"-n {self.netns} addr add {self.ip4}/24 dev br0",
               f"-n {self.netns} addr add {self.ip6}/112 dev br0 nodad",
               f"-n {self.netns} link set br0 up"])


class Pod(Place):
    """ip4 or ip6 may be None."""

    def __init__(self, net, name, node, host, ip4, ip6):
        super().__init__(net, name)
        self.node, self.ip4, self.ip6 = node, ip4, ip6
        net.port += 1
        port = f"v{net.port}"
        # of its place, so that a pod that comes back is found without waiting for neighbour entries to age
        mac = f"02:00:00:00:{node.index:02x}:{host:02x}"
        lines = [f"-n {node.netns} link add {port} type veth peer name eth0 address {mac} netns {self.netns}",
                 f"-n {node.netns} link set {port} master br0 up"]
        if ip4:
            lines.append(f"-n {self.netns} addr add {ip4}/24 dev eth0")
        if ip6:
            lines.append(f"-n {self.netns} addr add {ip6}/112 dev eth0 nodad")
        lines.append(f"-n {self.netns} link set eth0 up")
        if ip4:
            lines.append(f"-n {self.netns} route add default via {node.ip4}")
        if ip6:
            lines.append(f"-n {self.netns} -6 route add default via {node.ip6}")
        # What a network plugin announces: the address may have been another pod's a moment ago.
        lines += [f"-n {node.netns} neigh flush to {address} dev br0" for address in (ip4, ip6) if address]
        ip(lines)

    def delete(self):
        """As when a pod ends: its namespace goes away."""
        run("ip", "netns", "del", self.netns)
        self.net.places.remove(self)


class Net:
    """A context manager; `directory` holds logs and configuration."""

    counter = 0
    made = []  # those that a failure of the present test may be about (conftest.py)

    def __init__(self, directory):
        if Net.counter == 0:
            leftovers.sweep()
        Net.counter += 1
        self.prefix = f"wt{os.getpid()}{'abcdefghijklmnopqrstuvwxyz'[Net.counter % 26] * (Net.counter // 26 + 1)}"
        self.directory = str(directory)
        self.claim = leftovers.Claim(self.prefix, self.directory)
        self.port = 0
        self.places, self.nodes, self.pods, self.processes, self.closers = [], {}, {}, [], []
        self.told, self.closed = [], False  # told: all processes that there were
        Net.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def node(self, name):
        index = len(self.nodes) + 1
        node = Node(self, name, index)
        for other in self.nodes.values():
            self._wire(other, node)
        self.nodes[name] = node
        return node

    @staticmethod
    def _wire(a, b):
        net4, net6 = f"10.51.{a.index}{b.index}", f"fd51::{a.index}{b.index}"
        near, far = f"w{b.index}", f"w{a.index}"
        ip([f"-n {a.netns} link add {near} type veth peer name {far} netns {b.netns}",
               f"-n {a.netns} addr add {net4}.1/30 dev {near}", f"-n {b.netns} addr add {net4}.2/30 dev {far}",
               f"-n {a.netns} addr add {net6}:1/126 dev {near} nodad",
               f"-n {b.netns} addr add {net6}:2/126 dev {far} nodad",
               f"-n {a.netns} link set {near} up", f"-n {b.netns} link set {far} up",
               f"-n {a.netns} route add 10.50.{b.index}.0/24 via {net4}.2",
               f"-n {b.netns} route add 10.50.{a.index}.0/24 via {net4}.1",
               f"-n {a.netns} -6 route add fd50::{b.index}:0/112 via {net6}:2",
               f"-n {b.netns} -6 route add fd50::{a.index}:0/112 via {net6}:1"])

    def pod(self, name, node, host, v4=True, v6=True):
        """host: the last number of its addresses, decimal in IPv4 and the same digits in IPv6."""
        node = self.nodes[node] if isinstance(node, str) else node
        pod = Pod(self, name, node, host, f"10.50.{node.index}.{host}" if v4 else None,
                  f"fd50::{node.index}:{host}" if v6 else None)
        self.pods[name] = pod
        return pod

    def spawn(self, command, env=None, name="process"):
        process = Process(command, os.path.join(self.directory, f"{name}-{len(self.processes)}.log"), env=env,
                          name=name)
        self.processes.append(process)
        self.told.append(process)
        return process

    def close(self):
        for close in reversed(self.closers):
            try:
                close()
            except Failed as error:
                print(f"cleanup: {error}")
        for process in reversed(self.processes):
            process.stop(2.0)
        for place in reversed(self.places):
            run("ip", "netns", "del", place.netns, check=False)
        self.places, self.processes, self.closers, self.closed = [], [], [], True
        self.claim.release()
