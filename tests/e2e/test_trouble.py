# SPDX-License-Identifier: Apache-2.0
"""The machine itself in trouble: one clear sentence each, and no half-loaded state."""
import os

import pytest

from lib import town as towns
from lib.mesh import Mesh, namespace, workload
from lib.shell import BUILD, run, sanitized, wait_for
from lib.traffic import call

WEFTD = os.path.join(BUILD, "weftd")


@pytest.fixture
def place(net):
    node = net.node("node-a")
    net.pod("frontend", "node-a", 10)
    return node


def weftd(net, *options, before=(), env=None):
    """Starts weftd in trouble: (exit status or None when it runs all the same, what it said)."""
    config = os.path.join(net.directory, "config")
    os.makedirs(config, exist_ok=True)
    node = net.nodes["node-a"]
    words = [*before, WEFTD, "run", "--config", config, "--node", "node-a", "--instance", net.prefix,
             "--run-dir", os.path.join(net.directory, "run"), "--state-dir", os.path.join(net.directory, "state"),
             "--metrics-listen", "off", *options]
    process = net.spawn(node.command(*words), env=env, name="weftd-trouble")  # to a file: a helper would hold a pipe
    control = os.path.join(net.directory, "run", "weft.sock")
    wait_for("weftd to end or to be ready", lambda: not process.alive() or run(
        "curl", "-sf", "--unix-socket", control, "http://weft/readyz", check=False).returncode == 0)
    status = process.popen.poll()
    if status is None:
        process.stop()
        run(WEFTD, "cleanup", "--instance", net.prefix, "--run-dir", os.path.join(net.directory, "run"))
    return status, process.output()


def one_sentence(said, *words):
    lines = [line for line in said.splitlines() if line.startswith("weftd: ")]
    assert len(lines) == 1, said
    for word in words:
        assert word in lines[0], said
    return lines[0]


def left_nothing(net):
    assert not os.path.exists(f"/sys/fs/bpf/weft/{net.prefix}")
    listed = run("bpftool", "cgroup", "tree", check=False).stdout
    assert net.prefix not in listed


def test_no_permission(net, place):
    status, said = weftd(net, before=["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    assert status == 1
    one_sentence(said)
    left_nothing(net)


def test_plain_user(net, place):
    os.chmod(net.directory, 0o777)
    for path in (net.directory, os.path.dirname(net.directory), os.path.dirname(os.path.dirname(net.directory))):
        os.chmod(path, 0o755)
    status, said = weftd(net, "--run-dir", "/tmp/" + net.prefix, "--state-dir", "/tmp/" + net.prefix,
                         before=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    run("rm", "-rf", "/tmp/" + net.prefix)
    assert status == 1
    one_sentence(said, "root")
    left_nothing(net)


def test_missing_cgroup2(net, place):
    status, said = weftd(net, "--cgroup", net.directory)
    assert status == 1
    one_sentence(said, "cgroup2", net.directory)
    left_nothing(net)


def test_kernel_without_btf_is_no_trouble(net, place):
    """The programs use stable contexts only, so nothing has to be relocated against the kernel's types."""
    hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\""
    status, said = weftd(net, before=["unshare", "-m", "sh", "-c", hide, "sh"])
    assert status is None, said
    left_nothing(net)


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
long syscall(long number, ...)
{
	__builtin_va_list a;
	long v[6], (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	static int made;
	__builtin_va_start(a, number);
	for (int i = 0; i < 6; i++) v[i] = __builtin_va_arg(a, long);
	__builtin_va_end(a);
	if (number == SYS_bpf && v[0] == 0 && made++ == atoi(getenv("REFUSE_MAP"))) { errno = ENOMEM; return -1; }
	return real(number, v[0], v[1], v[2], v[3], v[4], v[5]);
}
"""


@pytest.mark.parametrize("which", [4, 12])
def test_map_creation_refused(net, place, which):
    """The kernel refuses one of the tables, early or late while they are made."""
    if sanitized():
        pytest.skip("a build with sanitizers takes no preloaded shim")
    shim = os.path.join(net.directory, "shim.so")
    run("cc", "-shared", "-fPIC", "-x", "c", "-", "-o", shim, "-ldl", stdin=SHIM)
    status, said = weftd(net, before=["env", f"LD_PRELOAD={shim}", f"REFUSE_MAP={which}"])
    assert status == 1, said
    one_sentence(said, "memory")
    left_nothing(net)


def test_table_sizes_out_of_range_are_rejected_by_name(net, place):
    os.makedirs(os.path.join(net.directory, "config"), exist_ok=True)
    with open(os.path.join(net.directory, "config", "mesh.yaml"), "w", encoding="utf-8") as file:
        file.write("weft: { maps: { connections: 2000000000 } }\n")
    _, said = weftd(net)
    assert "mesh.yaml:1" in said and "weft.maps.connections" in said and "100000000" in said


def test_helper_missing(net, place):
    status, said = weftd(net, "--helper", "/nonexistent/weft-helper")
    assert status == 1
    one_sentence(said, "/nonexistent/weft-helper")
    run(WEFTD, "cleanup", "--instance", net.prefix, "--run-dir", os.path.join(net.directory, "run"))
    left_nothing(net)


def test_start_that_fails_late_leaves_no_helper(net, place):
    """systemd tries again and again."""
    def helpers():
        done = run("pgrep", "-x", "weft-helper", "--nslist", "net", "--ns", place_pid, check=False)
        return done.stdout.split()
    place_pid = place.spawn("sleep", "60").pid
    for _ in range(3):
        status, said = weftd(net, "--metrics-listen", "bogus")
        assert status == 1
        one_sentence(said, "bogus")
    wait_for("the helpers to be gone", lambda: not helpers())
    run(WEFTD, "cleanup", "--instance", net.prefix, "--run-dir", os.path.join(net.directory, "run"))
    left_nothing(net)


def test_damaged_ca(net, place):
    ca = os.path.join(net.directory, "ca")
    os.makedirs(ca)
    for name in ("root-cert.pem", "ca-key.pem"):
        with open(os.path.join(ca, name), "w", encoding="ascii") as file:
            file.write("not a certificate\n")
    status, said = weftd(net, "--ca-dir", ca)
    assert status == 1
    one_sentence(said, ca)
    left_nothing(net)


def test_second_agent_of_one_instance_is_refused(net, place):
    mesh = Mesh(net)
    mesh.start()
    agent = mesh.agents["node-a"]
    done = net.nodes["node-a"].run(WEFTD, "run", "--config", mesh.config, "--instance", agent.instance, "--run-dir",
                                   agent.run_dir, "--state-dir", agent.state_dir, check=False)
    assert done.returncode == 1 and "running already" in done.stderr
    done = run(WEFTD, "cleanup", "--instance", agent.instance, "--run-dir", agent.run_dir, check=False)
    assert done.returncode == 1 and "stop it first" in done.stderr
    assert agent.api("/readyz", raw=True) is not None


def test_namespace_deleted_under_the_agent(net, place):
    mesh = Mesh(net)
    mesh.write("00.yaml", namespace("shop") + workload(net.pods["frontend"], "shop", "frontend"))
    mesh.start()
    agent = mesh.agents["node-a"]
    net.pods["frontend"].delete()
    wait_for("the pod to be gone", lambda: agent.api("/v1/status")["pods"]["enrolled"] == 0)
    failed = wait_for("the reason to be shown", lambda: agent.api("/v1/status")["pods"]["failed"])
    assert "frontend" in failed[0]["workload"] and failed[0]["error"], failed
    assert agent.process.alive()


def test_two_workloads_cannot_claim_one_namespace(net, place):
    mesh = Mesh(net)
    pod = net.pods["frontend"]
    twin = workload(pod, "shop", "twin").replace("name: frontend", "name: twin").replace(pod.ip4, "10.50.1.99")
    mesh.write("00.yaml", namespace("shop") + workload(pod, "shop", "frontend") + twin)
    mesh.start()
    failed = wait_for("the second to be refused", lambda: mesh.agents["node-a"].api("/v1/status")["pods"]["failed"])
    assert len(failed) == 1 and "already" in failed[0]["error"], failed


def test_pod_vanishes_in_mid_connection(tmp_path):
    from lib.net import Net
    from lib.traffic import held, hold
    with Net(tmp_path) as made:
        town = towns.build(made)
        going = hold(town.frontend, "10.60.0.30", 7000, 600, timeout=10)
        other = hold(town.frontend, "10.60.0.40", 80, 3)
        for process in made.processes:
            if process.name == "serve-payments":
                process.stop()
        town.payments.delete()
        assert not held(going)
        assert held(other)
        assert not call(town.frontend, "10.60.0.30", 7000, timeout=12)["ok"]


def test_precheck_tells_before_there_is_an_agent():
    good = run(WEFTD, "precheck", check=False)
    assert good.returncode == 0 and "MISSING" not in good.stdout and "sk_lookup" in good.stdout
    bad = run("setpriv", "--bounding-set=-all", "--inh-caps=-all", WEFTD, "precheck", check=False)
    assert bad.returncode == 1 and "MISSING" in bad.stdout and "root" in bad.stdout
