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


# How long anything may take before it counts as never: a machine that is ten times slower than ours, and busy, must not fail.
# What is right does not wait for it.
PATIENCE_S = 90.0


class Failed(Exception):
    """A command or a wait failed; the text says which, and what was seen."""


class Ended(Exception):
    """What is waited for can't come any more."""


def run(*command, check=True, timeout=2 * PATIENCE_S, stdin=None, env=None):
    """Runs a command to its end; returns CompletedProcess with text output."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                              input=stdin, env=env, check=False)
    except subprocess.TimeoutExpired as error:
        said = b"".join(part or b"" for part in (error.stdout, error.stderr)).decode(errors="replace")
        raise Failed(f"{' '.join(map(str, command))}: not done after {timeout} s\n{said[-4000:]}") from error
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def ip(lines):
    """Runs `ip` with each line as its arguments."""
    for line in lines:
        run("ip", *line.split())


def wait_for(what, condition, timeout=PATIENCE_S, every=0.02):
    """Waits until condition() is true and returns its value; Failed after `timeout` seconds. A shorter one is a promise of the
    product's, not of the machine's."""
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


def until_seen(ask, wanted, tries=80):
    """Calls ask() until all of `wanted` have been its answers, and no other: for choices made at random, so that one of two
    that never comes is no accident (2 to the -79th)."""
    seen = set()
    for _ in range(tries):
        seen.add(ask())
        assert seen <= set(wanted), seen
        if seen == set(wanted):
            return
    raise AssertionError(f"{tries} times, and only {seen} of {wanted}")


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

    def wait_output(self, text, timeout=PATIENCE_S):
        """Waits until it has said `text`; one that ends before fails at once, with what it said."""
        def said():
            alive = self.alive()  # before the output: what it said last is there by then
            if text in self.output():
                return True
            if not alive:
                raise Ended(f"{self.name} ended with status {self.popen.returncode}:\n{self.output()[-4000:]}")
            return False
        wait_for(f"{self.name} to say {text!r}", said, timeout)
        return self

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
