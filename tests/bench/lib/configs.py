# SPDX-License-Identifier: Apache-2.0
"""How long Weft takes to start, and from a changed file to its effect on traffic, in small and large meshes."""
import time

from e2e.lib.mesh import service
from e2e.lib.shell import Failed

from . import unixhttp
from .load import CLOSED_PORT, ECHO_PORT, Background, client
from .weft import NamedMesh, configuration

FLIP_VIP, FLIP_PORT = "10.60.0.99", 80
LARGE_FILES = 100
SIZES = {"small": (10, 5), "large": (10000, 5)}  # services, endpoints of each


def flip(port):
    """The service that changes: its target port is the echo server's, or one that nobody listens on."""
    return service("flip", "bench", [("tcp", FLIP_PORT, port, "TCP")], [FLIP_VIP], app="samenode")


def entry(number, endpoints):
    """A ServiceEntry in one line: addresses of its own in 10.128.0.0/9, none of which is ever called."""
    vip = f"10.{128 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"
    hosts = ", ".join(
        f"{{ address: 10.{192 + (i >> 16)}.{(i >> 8) & 255}.{i & 255}, labels: {{ app: s{number} }}, "
        f"serviceAccount: a{number % 50} }}" for i in range(number * endpoints, (number + 1) * endpoints))
    return (f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
            f"metadata: {{ name: s{number}, namespace: other }}\n"
            f"spec: {{ hosts: [ s{number}.other.example ], addresses: [ {vip} ], resolution: STATIC, "
            f"location: MESH_INTERNAL, ports: [ {{ number: 80, name: tcp, protocol: TCP }} ], "
            f"endpoints: [ {hosts} ] }}\n---\n")


def fill(mesh, services, endpoints):
    files = min(LARGE_FILES, max(1, services // 100))
    for index in range(files):
        numbers = range(index * services // files, (index + 1) * services // files)
        mesh.write(f"services-{index:03}.yaml", "".join(entry(number, endpoints) for number in numbers))


def start_once(session, agent):
    """Milliseconds from exec to ready; ready must mean that the configuration is in force."""
    begin = time.monotonic_ns()
    agent.start(wait=False)
    while True:
        try:
            unixhttp.get(agent.socket, "/readyz")
            break
        except OSError as error:
            if not agent.process.alive() or time.monotonic_ns() - begin > 60e9:
                raise Failed(f"weftd is not ready after {(time.monotonic_ns() - begin) / 1e9:.1f} s "
                             f"({error})\n{agent.process.output()[-2000:]}") from error
            time.sleep(0.001)
    took = (time.monotonic_ns() - begin) / 1e6
    client(session.bench.client, "watch", (FLIP_VIP, FLIP_PORT), want="ok", seconds=0.2)
    return took


def change_once(session, mesh, want):
    """Milliseconds from the file's replacement to the first connection that meets the change."""
    with Background(session.bench.client, "watch", FLIP_VIP, FLIP_PORT, "--want", "ok" if want else "refused",
                    "--seconds", "10") as watcher:
        watcher.line()
        time.sleep(0.002)  # the watcher meets the old state first
        begin = time.monotonic_ns()
        mesh.write("flip.yaml", flip(ECHO_PORT if want else CLOSED_PORT))
        answer = watcher.line()
    if not answer["tries"]:
        raise Failed("the change had its effect before it was made")
    return (answer["at_ns"] - begin) / 1e6


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(session, size, starts, changes):
    """A mesh of its own with this many services; only the node of the client runs an agent."""
    mesh = NamedMesh(session.bench.net, f"config-{size}")
    mesh.write("bench.yaml", configuration(session.bench))
    mesh.write("flip.yaml", flip(ECHO_PORT))
    fill(mesh, *SIZES[size])
    agent = mesh.agent(session.bench.net.nodes["node-a"])
    for number in range(starts):
        session.progress(f"start_{size} {number + 1}/{starts}")
        session.add(f"start_{size}", "weft", start_once(session, agent))
        if number < starts - 1:
            agent.cleanup()
    session.progress(f"config_{size}")
    times = [change_once(session, mesh, want=bool(number % 2)) for number in range(changes)]
    session.add(f"config_{size}_p99", "weft", percentile(times, 0.99))
    agent.cleanup()


def run(session, wanted):
    if not session.candidate("weft"):
        return
    session.close()
    for size in SIZES:
        if not wanted & {f"start_{size}", f"config_{size}_p99"}:
            continue
        try:
            measure(session, size, starts=2 if session.quick else 5,
                    changes=(20 if session.quick else 100))
        except (Failed, OSError) as error:
            session.problems.append(f"configuration, {size}: {str(error)[:2000]}")
