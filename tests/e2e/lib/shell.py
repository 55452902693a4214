# SPDX-License-Identifier: Apache-2.0
"""Running commands and waiting for things."""
import os
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build"))


def sanitized():
    """Whether what is tested was built with ASan, which costs memory and lets nothing be preloaded."""
    with open(os.path.join(BUILD, "weftd"), "rb") as file:
        return b"__asan_init" in file.read()


class Failed(Exception):
    """A command or a wait failed; the text says which, and what was seen."""


def run(*command, check=True, timeout=30, stdin=None, env=None):
    """Runs a command to its end; returns CompletedProcess with text output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                          input=stdin, env=env, check=False)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def ip(lines):
    """Runs `ip` with each line as its arguments."""
    for line in lines:
        run("ip", *line.split())


def wait_for(what, condition, timeout=10.0, every=0.02):
    """Waits until condition() is true and returns its value; Failed after `timeout` seconds."""
    end = time.monotonic() + timeout
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (Failed, OSError, subprocess.SubprocessError, KeyError, IndexError, ValueError) as error:
            last = error
        time.sleep(every)
    raise Failed(f"waited {timeout} s for {what}; last seen: {last!r}")


class Process:
    """A background process with its output in a file; stopped by name and pid, never by pattern."""

    def __init__(self, command, log, env=None, name=None):
        self.log = log
        self.name = name or os.path.basename(command[0])
        with open(log, "ab") as out:
            self.popen = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=subprocess.STDOUT, env=env, start_new_session=True)
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def stop(self, timeout=5.0):
        """SIGTERM to the process group, SIGKILL after `timeout`."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive():
                break
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                continue
        return self.popen.poll()

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()
