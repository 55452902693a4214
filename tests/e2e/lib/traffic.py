# SPDX-License-Identifier: Apache-2.0
"""Servers and clients in pods, by peer.py."""
import json
import os
import subprocess
import sys

from .shell import PATIENCE_S, Failed, wait_for

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer.py")


def serve(place, port, udp=False):
    """An echo server on all addresses of the pod, both families."""
    flags = ["--udp"] if udp else []
    process = place.spawn(PYTHON, PEER, "serve", port, "--name", place.name, *flags, name=f"serve-{place.name}")
    return process.wait_output("listening")


def call(place, address, port, **options):
    """One call; the dict that peer.py printed. Options are peer.py's: family="mapped", udp=True, ..."""
    done = place.run(*call_words(address, port, **options), check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {"ok": False, "error": done.stderr}


def hold(place, address, port, seconds, **options):
    """A connection that goes on in the background; see held()."""
    process = place.spawn(*call_words(address, port, hold=seconds, **options), name=f"hold-{place.name}")
    wait_for("the held connection to be up", lambda: process.output().strip() or not process.alive())
    assert json.loads(process.output().splitlines()[0])["ok"], process.output()
    return process


def held(process):
    """Waits for a hold() to end; true when it lasted."""
    return last_line(process).get("held", False)


def last_line(process, timeout=PATIENCE_S):
    """Waits for a process of ours to end, whose last line is JSON."""
    try:
        process.popen.wait(timeout)
        return json.loads(process.output().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise Failed(f"{process.name}: {error}; it said:\n{process.output()[-4000:]}") from error


def churn(place, address, port, seconds, **options):
    """New connections one after the other in the background; see churned()."""
    return place.spawn(*call_words(address, port, churn=True, hold=seconds, **options), name=f"churn-{place.name}")


def churned(process):
    """Waits for a churn() to end: {"rounds": ..., "failed": [...]}."""
    return last_line(process)


def call_words(address, port, **options):
    words = [PYTHON, PEER, "call", address, port]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, False):
            words += [f"--{name}", value]
    return words
