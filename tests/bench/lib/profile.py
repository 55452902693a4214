# SPDX-License-Identifier: Apache-2.0
"""Where a candidate's processes spend their time while they are measured, by perf."""
import contextlib
import json
import os
import shutil
import signal
import subprocess

from e2e.lib.shell import run


def report(data, *options):
    done = run("perf", "report", "-i", data, "--no-children", "--stdio", *options, check=False, timeout=120)
    return "\n".join(line for line in done.stdout.splitlines() if line and not line.startswith("#"))


def bpf_programs():
    """{id: (name, ns, runs)} of Weft's programs, of all instances on this kernel."""
    done = run("bpftool", "-j", "prog", "show", check=False)
    rows = json.loads(done.stdout) if done.returncode == 0 else []
    return {row["id"]: (row["name"], row.get("run_time_ns", 0), row.get("run_cnt", 0)) for row in rows
            if row.get("name", "").startswith("weft_")}


@contextlib.contextmanager
def bpf_recorded(path):
    """Writes how often each program ran and what a run cost, costliest first. The counting itself costs 30 ns a run."""
    run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
    before = bpf_programs()
    try:
        yield
    finally:
        after = bpf_programs()
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=0")
        rows = [(ns - before.get(key, (0, 0, 0))[1], runs - before.get(key, (0, 0, 0))[2], name)
                for key, (name, ns, runs) in after.items()]
        with open(path, "w", encoding="utf-8") as file:
            for ns, runs, name in sorted(rows, reverse=True):
                if runs:
                    file.write(f"{name:20} {runs:10} runs {ns / runs:8.0f} ns a run {ns / 1e6:10.3f} ms\n")


@contextlib.contextmanager
def recorded(directory, name, pids):
    """Writes DIRECTORY/NAME.txt: shares of libraries, of functions, and who called them; nothing without a directory or
    pids. In a virtual machine without NMIs time with interrupts off is put on the function that turns them on again."""
    if not directory or not pids:
        yield
        return
    if not shutil.which("perf"):
        raise OSError("--profile needs perf (linux-perf)")
    os.makedirs(directory, exist_ok=True)
    data, text = (os.path.join(directory, f"{name}.{kind}") for kind in ("data", "txt"))
    with subprocess.Popen(["perf", "record", "-q", "-F", "997", "-g", "-p", ",".join(map(str, pids)), "-o", data],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as perf:
        try:
            with bpf_recorded(os.path.join(directory, f"{name}.bpf.txt")):
                yield
        finally:
            perf.send_signal(signal.SIGINT)
            perf.wait(30)
    libraries = report(data, "-g", "none", "--sort", "comm,dso")
    functions = report(data, "-g", "none", "--sort", "comm,dso,sym")
    callers = report(data, "-g", "caller,0.5,callee,function,percent", "--sort", "sym", "--percent-limit", "1")
    with open(text, "w", encoding="utf-8") as file:
        file.write("\n\n".join((libraries, functions, callers)))
