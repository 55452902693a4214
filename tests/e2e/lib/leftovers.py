# SPDX-License-Identifier: Apache-2.0
"""What a run that was killed (kill -9, a closed terminal) left behind, and its removal by the next run.

Each Net has a file in CLAIMS, named as its prefix, with the path of its directory in it. It is locked as long as the
process that made it lives, and nobody removes what belongs to a locked one.
"""
import fcntl
import glob
import os
import signal

from .shell import BUILD, run, wait_for

CLAIMS = os.environ.get("WEFT_TEST_CLAIMS", "/run/weft-tests")
PINS = "/sys/fs/bpf/weft"


class Claim:
    """Held by a Net from its first namespace to its last."""

    def __init__(self, prefix, directory):
        os.makedirs(CLAIMS, exist_ok=True)
        self.path = os.path.join(CLAIMS, prefix)
        self.file = open(self.path, "w", encoding="utf-8")  # pylint: disable=consider-using-with
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.write(directory)
        self.file.flush()

    def release(self):
        if not self.file.closed:
            os.unlink(self.path)
            self.file.close()


def sweep():
    """Removes what processes that are gone have left; returns the prefixes."""
    swept = []
    for path in sorted(glob.glob(os.path.join(CLAIMS, "*"))):
        try:
            with open(path, "r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                directory = file.read()
                if not directory or not os.path.exists(path):
                    continue  # just being made, or swept by another run
                remove(os.path.basename(path), directory)
                os.unlink(path)
                swept.append(os.path.basename(path))
        except (BlockingIOError, FileNotFoundError):
            continue
    return swept


def remove(prefix, directory):
    """Processes, agents' pins and helpers, namespaces; the directory only if it is the demo's."""
    places = [name for name in os.listdir("/run/netns") if name.startswith(prefix + "-")] \
        if os.path.isdir("/run/netns") else []
    for place in places:
        empty(place)
    for instance, run_dir in instances(prefix, directory):
        run(os.path.join(BUILD, "weftd"), "cleanup", "--instance", instance, "--run-dir", run_dir, check=False)
    for place in places:
        run("ip", "netns", "del", place, check=False)
    if os.path.basename(directory).startswith("weft-demo-"):
        run("rm", "-rf", "--", directory)


def instances(prefix, directory):
    """Agents by their pins and by their run directories: either may be gone."""
    pinned = {os.path.basename(path) for path in glob.glob(f"{PINS}/{prefix}*")}
    nodes = {os.path.basename(os.path.dirname(path)) for path in glob.glob(f"{directory}/*/run")}
    names = {name for name in pinned if name == prefix or name.startswith(prefix + "-")}
    names |= {f"{prefix}-{node}" for node in nodes}
    names |= {prefix} if os.path.isdir(os.path.join(directory, "run")) else set()
    return [(name, os.path.join(directory, name[len(prefix) + 1:], "run")) for name in sorted(names)]


def empty(place):
    """Kills what runs in a namespace, and waits for its end: an agent that lives refuses to be cleaned up."""
    def gone():
        pids = run("ip", "netns", "pids", place, check=False).stdout.split()
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not pids
    wait_for(f"the processes of {place} to end", gone)
