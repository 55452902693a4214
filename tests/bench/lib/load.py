# SPDX-License-Identifier: Apache-2.0
"""Runs netload (netload.c) in pods."""
import json
import os
import subprocess

from e2e.lib.shell import BUILD, Failed, wait_for

NETLOAD = os.path.join(BUILD, "bench", "netload")
ECHO_PORT, SINK_PORT, CLOSED_PORT = 7000, 7001, 7999


def serve(pod):
    server = pod.spawn(NETLOAD, "serve", "--echo", ECHO_PORT, "--sink", SINK_PORT, "--threads", "2",
                       name=f"serve-{pod.name}")
    wait_for(f"the server of {pod.name}", lambda: "ready" in server.output() or not server.alive())
    if not server.alive():
        raise Failed(f"the server of {pod.name} ended: {server.output()}")
    return server


def parse(text, what):
    lines = text.strip().splitlines()
    answer = json.loads(lines[-1]) if lines else {"error": "no output"}
    if "error" in answer:
        raise Failed(f"netload {what}: {answer['error']}")
    return answer


def client(pod, mode, target, **options):
    """One run of a client in a pod; the dict that it printed."""
    words = [mode, *target]
    for name, value in options.items():
        words += [f"--{name}", value]
    done = pod.run(NETLOAD, *words, check=False, timeout=float(options.get("seconds", 0)) + 60)
    return parse(done.stdout or done.stderr, " ".join(map(str, words)))


class Background:
    """A client that reports more than once; `line()` waits for its next report."""

    def __init__(self, pod, *words):
        self.what = " ".join(map(str, words))
        self.popen = subprocess.Popen(pod.command(NETLOAD, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.stdin.close()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.popen.stdout.close()

    def line(self):
        return parse(self.popen.stdout.readline(), self.what)
