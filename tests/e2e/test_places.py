# SPDX-License-Identifier: Apache-2.0
"""Where a workload may live: a network namespace by path, a process, a control group of the host; and how many
connections, services and endpoints it may have."""
import contextlib
import os

import pytest

from lib.mesh import service
from lib.net import Net
from lib.shell import run, wait_for
from lib.town import Town, base_config, pods, servers
from lib.traffic import PEER, PYTHON, call, serve

STRICT = ("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
          "metadata: { name: default, namespace: shop }\nspec: { mtls: { mode: STRICT } }\n")


@pytest.fixture
def town(tmp_path):
    with Net(tmp_path) as net:
        pods(net)
        servers(net)
        yield Town(net)


def cgroup2_root():
    with open("/proc/mounts", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.split()[2] == "cgroup2")


def start(town, config):
    town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
    town.mesh.write("50-strict.yaml", STRICT)
    town.mesh.write("00-workloads.yaml", config)
    town.mesh.start()


def test_namespace_by_path_and_by_process(town):
    pid = town.frontend.spawn("sleep", "1000").pid
    config = base_config(town.net)
    config = config.replace(f"weft.dev/netns: {town.frontend.netns}", f'weft.dev/pid: "{pid}"')
    config = config.replace(f"weft.dev/netns: {town.catalog_1.netns}", f"weft.dev/netns: /run/netns/{town.catalog_1.netns}")
    start(town, config)
    assert call(town.frontend, "10.60.0.40", 80)["ok"]
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]


def listening(place):
    listing = place.run("ss", "-Htuln").stdout.splitlines()
    return {int(line.split()[4].rsplit(":", 1)[1]) for line in listing}


def test_listeners_leave_applications_their_ports(town):
    """Also when the kernel would hand out gRPC's usual port first; a port that an application had before stays its own."""
    town.payments.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=50051 50060")
    serve(town.payments, 15101)
    before = listening(town.payments)
    start(town, base_config(town.net))
    meshs = listening(town.payments) - before
    assert len(meshs) >= 5 and not meshs & {15008} and all(15100 <= port < 15356 for port in meshs), meshs
    serve(town.payments, 50051)
    for port in (15101, 50051, 7000):
        for address in (town.payments.ip4, town.payments.ip6):
            assert call(town.frontend, address, port)["ok"], (address, port)


@contextlib.contextmanager
def control_group(town, name):
    path = os.path.join(cgroup2_root(), f"{town.net.prefix}{name}.service")
    os.mkdir(path)

    def command(*words):
        return ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', path, *town.node_a.command(*words)]
    yield path, command
    for line in open(os.path.join(path, "cgroup.procs"), encoding="ascii"):
        os.kill(int(line), 9)
    wait_for("the control group to be empty", lambda: os.rmdir(path) is None)


@pytest.fixture
def unit(town):
    """A control group on node-a's own network, as of a systemd unit; run(words) is a command in it."""
    with control_group(town, "") as made:
        yield made


@pytest.fixture
def second_unit(town):
    with control_group(town, "-2") as made:
        yield made


def test_control_group_of_the_host(town, unit):
    path, command = unit
    entry = ("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: batch\n  namespace: shop\n"
             f"  annotations: {{ weft.dev/cgroup: {os.path.basename(path)}, weft.dev/node: node-a, "
             'weft.dev/ports: "9100" }\n'
             f"spec: {{ address: {town.node_a.ip4}, labels: {{ app: batch }}, serviceAccount: batch }}\n---\n")
    allow = ("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: batch, namespace: shop }\n"
             "spec: { selector: { matchLabels: { app: payments } }, action: ALLOW, rules: [ { from: [ { source: "
             '{ principals: [ "*/sa/batch" ] } } ] } ] }\n')
    start(town, base_config(town.net) + entry + allow)

    def from_unit(address, port):
        words = command(PYTHON, PEER, "call", address, port)
        return run(*words, check=False).returncode == 0
    assert from_unit("10.60.0.30", 7000), "mutual TLS to the other node, as batch"
    assert from_unit("10.60.0.40", 80), "attested on the own node"
    assert not call(town.frontend, "10.60.0.30", 7000)["ok"], "the policy is for batch alone"
    plain = town.node_a.run(PYTHON, PEER, "call", "10.60.0.30", "7000", "--timeout", "1", check=False)
    assert plain.returncode != 0, "another process of the host is not in the mesh"
    town.net.spawn(command(PYTHON, PEER, "serve", "9100", "--name", "batch"), name="serve-batch")
    wait_for("its server", lambda: ":9100" in town.node_a.run("ss", "-Htln").stdout)
    assert call(town.frontend, town.node_a.ip4, 9100)["ok"], "attested callers reach it"
    assert call(town.stranger, town.node_a.ip4, 9100).get("error") == "ECONNREFUSED", "strangers do not"


def test_two_control_groups_on_one_address_are_not_one_workload(town, unit, second_unit):
    """Both have the host's address, so packets between them look as if a workload called itself."""
    def entry(name, path, port):
        return ("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n"
                f"  name: {name}\n  namespace: shop\n"
                f"  annotations: {{ weft.dev/cgroup: {os.path.basename(path)}, weft.dev/node: node-a, "
                f'weft.dev/ports: "{port}" }}\n'
                f"spec: {{ address: {town.node_a.ip4}, labels: {{ app: {name} }}, serviceAccount: {name} }}\n---\n")
    deny = ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: second, namespace: shop }\n"
            "spec: { selector: { matchLabels: { app: second } }, action: DENY, rules: [ { from: [ { source: "
            '{ principals: [ "*/sa/first" ] } } ] } ] }\n---\n')
    start(town, base_config(town.net) + entry("first", unit[0], 9100) + entry("second", second_unit[0], 9200) + deny)
    town.net.spawn(second_unit[1](PYTHON, PEER, "serve", "9200", "--name", "second"), name="serve-second")
    wait_for("its server", lambda: ":9200" in town.node_a.run("ss", "-Htln").stdout)

    def calls(words):
        return run(*words, check=False).returncode == 0
    target = (PYTHON, PEER, "call", town.node_a.ip4, "9200")
    assert calls(second_unit[1](*target)), "itself"
    assert not calls(unit[1](*target)), "the policy refuses the first"
    assert calls(town.node_a.command(*target)), "a probe of the host"
    assert call(town.frontend, town.node_a.ip4, 9200)["ok"], "and nobody else"


def test_connections_beyond_the_pods_limit_are_refused(town):
    config = base_config(town.net).replace(f"weft.dev/netns: {town.frontend.netns}",
                                           f'weft.dev/netns: {town.frontend.netns}, weft.dev/max-connections: "20"')
    start(town, config)
    many = ("import socket\nheld=[]\nok=0\n"
            "for i in range(60):\n"
            "    try:\n        s=socket.create_connection(('10.60.0.30',7000),60)\n"
            "        s.settimeout(60); ok+=bool(s.recv(10)); held.append(s)\n"
            "    except OSError: pass\nprint(ok)")
    served = int(town.frontend.run(PYTHON, "-c", many).stdout)
    assert 20 <= served <= 24, served
    assert town.agent("node-a").metric("weft_drops_total", reason="connection_limit") >= 36
    wait_for("room again", lambda: call(town.frontend, "10.60.0.30", 7000)["ok"])


def test_tables_grow_beyond_their_first_size(town):
    town.mesh.write("10-mesh.yaml", "weft: { maps: { services: 16, endpoints: 16, workloads: 16 } }\n")
    town.mesh.write("00-workloads.yaml", base_config(town.net))
    town.mesh.start()
    more = "".join(service(f"s{i}", "shop", [(f"tcp-{p}", 80 + p, 8080, "TCP") for p in range(12)],
                           [f"10.61.{i // 250}.{i % 250 + 1}"], app="catalog") for i in range(400))
    town.mesh.write("70-many.yaml", more)
    town.mesh.settle()
    assert call(town.frontend, "10.61.0.1", 80)["ok"] and call(town.frontend, "10.61.1.150", 91)["ok"]
    fill = {row["name"]: row for row in town.agent("node-a").api("/v1/status")["maps"]}
    assert fill["services"]["entries"] >= 4800 and fill["services"]["max_entries"] >= fill["services"]["entries"], fill
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
