# SPDX-License-Identifier: Apache-2.0
"""A run that was killed leaves nothing that the next run does not remove."""
import os
import signal
import subprocess
import sys

from lib import leftovers
from lib.shell import run, wait_for

RUN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from lib.net import Net
from lib.town import build
build(Net(sys.argv[2]))
print("up", flush=True)
time.sleep(600)
"""


def start(directory):
    os.makedirs(directory)
    run_of = subprocess.Popen([sys.executable, "-c", RUN, os.path.dirname(os.path.abspath(__file__)), directory],
                              stdout=subprocess.PIPE, text=True, env={**os.environ, "WEFT_TEST_CLAIMS": leftovers.CLAIMS})
    assert run_of.stdout.readline() == "up\n"
    return run_of, f"wt{run_of.pid}b"


def left(prefix, directory):
    """Namespaces, pins and processes that belong to it."""
    namespaces = [name for name in os.listdir("/run/netns") if name.startswith(prefix)]
    pins = [name for name in os.listdir(leftovers.PINS) if name.startswith(prefix)] if os.path.isdir(leftovers.PINS) else []
    processes = [line for line in run("ps", "-ww", "-eo", "args").stdout.splitlines() if f"{directory}/" in line]
    return namespaces + pins + processes


def test_killed_run_is_swept_and_living_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "CLAIMS", str(tmp_path / "claims"))  # or another run beside this one sweeps first
    alive, alive_prefix = start(str(tmp_path / "alive"))
    dead, dead_prefix = start(str(tmp_path / "dead"))
    try:
        helpers = [open(path, encoding="utf-8").read().split()[0] for path in (tmp_path / "dead").glob("*/run/helper.pid")]
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert left(dead_prefix, tmp_path / "dead")
        assert dead_prefix in leftovers.sweep()
        assert not left(dead_prefix, tmp_path / "dead")
        for pid in helpers:
            wait_for("its helper to end", lambda pid=pid: not running(pid))
        assert left(alive_prefix, tmp_path / "alive")
    finally:
        alive.kill()
        alive.wait()
        leftovers.sweep()
    assert not left(alive_prefix, tmp_path / "alive")


def running(pid):
    """Not a zombie either, which only its parent can bury."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
