# SPDX-License-Identifier: Apache-2.0
"""Removes what a killed run leaves behind: a child that waits for its parent's end, whatever its manner."""
import glob
import os
import shutil
import signal
import subprocess


def sweep(prefix, directory):
    """Ends the processes in the namespaces with this prefix, and removes the namespaces and the directory."""
    names = [os.path.basename(path) for path in glob.glob(f"/run/netns/{prefix}-*")]
    for name in names:
        pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
        for pid in pids.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    shutil.rmtree(directory, ignore_errors=True)


def guard(prefix, directory, also=()):
    """From here on a sweep happens when this process ends, even by SIGKILL. `also`: commands to run after it."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(reader)
        return writer  # kept open (and not inherited by exec) until the process ends
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.close(writer)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        os.read(reader, 1)
        sweep(prefix, directory)
        for command in also:
            if os.path.exists(command[0]):
                subprocess.run(command, check=False, timeout=30)
    finally:
        os._exit(0)
