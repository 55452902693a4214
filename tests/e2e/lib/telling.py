# SPDX-License-Identifier: Apache-2.0
"""What a net has to say when a test of it fails: [(title, text)], bounded."""
import json
import os
import re

from .shell import run

AGENT_LINES, OTHER_LINES, TEXT_MAX, QUIET_MAX = 60, 15, 6000, 40


def sections(net):
    out, quiet = [], []
    for process in net.told[-100:]:
        text = re.sub(r"[^\t\n\x20-\x7e]", "?", process.output() if os.path.exists(process.log) else "")
        agent = process.name.startswith("weftd")
        status = process.popen.poll()
        state = f"{process.name} ({process.pid}), " + ("running" if status is None else f"ended with {status}")
        lines = text.splitlines()
        if len(lines) <= 1 and not agent:
            quiet.append(f"{state}: {text.strip()[:200]}")
            continue
        out.append((state, "\n".join(lines[-(AGENT_LINES if agent else OTHER_LINES):])[-TEXT_MAX:]))
    out = out[-25:]
    if quiet:
        out.append((f"other processes of {net.prefix}", "\n".join(quiet[-QUIET_MAX:])))
    return out if net.closed else out + statuses(net) + sockets(net)


def statuses(net):
    """By curl alone: whatever is wrong must not fail here."""
    out = []
    for node in net.nodes:
        path = os.path.join(net.directory, node, "run", "weft.sock")
        if os.path.exists(path):
            done = run("curl", "-sS", "--max-time", "5", "--unix-socket", path, "http://weft/v1/status", check=False)
            out.append((f"status of {node}", shown(done.stdout) or done.stderr.strip()))
    return out


def shown(text):
    try:
        status = json.loads(text)
    except ValueError:
        return text[:TEXT_MAX]
    wanted = ("ready", "config", "helper", "pods", "connections", "drops")
    return "\n".join(f"{key}: {json.dumps(status[key])[:1500]}" for key in wanted if key in status)


def sockets(net):
    """Who listens where: a server that finds its port taken says no more than that."""
    rows = []
    for place in net.places:
        rows.append(f"{place.name}: " + " ".join(listeners(place)))
    return [(f"listeners of {net.prefix}", "\n".join(rows)[:TEXT_MAX])]


def listeners(place):
    for line in place.run("ss", "-Htulnp", check=False).stdout.splitlines():
        words = line.split()
        who = words[6].split('"')[1] if len(words) > 6 and '"' in words[6] else "?"
        yield f"{words[0]}/{words[4]}={who}"
