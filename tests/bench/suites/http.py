# SPDX-License-Identifier: Apache-2.0
"""The HTTP mesh: what a request costs through one proxy of one thread, and between pods of two nodes through mutual TLS."""
import os
import statistics
import time

from e2e.lib.shell import Failed
from lib import procs
from lib.candidate import Direct, Missing
from lib.httpload import GRPC_PORT, H1_PORT, H2_PORT, MESSAGE, Held, load, p99_us, serve, status
from lib.httpproxies import EnvoyHop, EnvoyRules, EnvoySidecars, Haproxy, Nginx
from lib.httpweft import TELEMETRY, WeftHop, WeftNodes, WeftRules, virtual_services
from lib.measure import Case

CASES = [
    Case("plain_h1_cpu", "us", "lower", ("each", "<=", {"haproxy": 1.0, "envoy": 0.45})),
    Case("plain_h1_rps", "1/s", "higher"),
    Case("plain_h2_cpu", "us", "lower", ("envoy", "<=", 0.5)),
    Case("grpc_cpu", "us", "lower", ("envoy", "<=", 0.5)),
    Case("routes_10k_cpu", "x", "lower", ("value", "<=", 1.05)),
    Case("telemetry_cpu", "x", "lower", ("value", "<=", 1.25)),
    Case("mtls_h1_rps", "1/s", "higher", ("envoy", ">=", 1.7)),
    Case("mtls_h1_p99_half", "us", "lower", ("envoy", "<=", 0.6)),
    Case("mtls_h1_cpu", "us", "lower"),
    Case("mtls_h2_rps", "1/s", "higher", ("envoy", ">=", 1.7)),
    Case("mtls_h1_rules_rps", "1/s", "higher", ("envoy", ">=", 1.7)),
    Case("mtls_h1_rules_cpu", "us", "lower"),
    Case("idle_h2_conn_bytes", "B", "lower", ("value", "<=", 24576)),
]
HOPS, NODES = (Direct, Nginx, Haproxy, EnvoyHop, WeftHop), (Direct, EnvoySidecars, WeftNodes)
RULES = (EnvoyRules, WeftRules)
IDLE_CONNECTIONS = 10000
GRPC = ["content-type: application/grpc", "te: trailers"]


def gather(bench, names):
    """All candidates of both groups whose name is asked for; what is missing is said once."""
    serve(bench.server("hbone"), bench.net.directory)
    found, said = [], set()
    for kind in HOPS + NODES[1:] + RULES:
        if kind.name not in names:
            continue
        try:
            found.append(kind(bench))
        except Missing as missing:
            if kind.name not in said:
                print(f"bench: the column {kind.name} is absent. {missing}")
            said.add(kind.name)
    return found


def measured(session, candidate, port=H1_PORT, **options):
    """(CPU in us of the proxies for a request, requests a second)."""
    pids = candidate.pids()
    before = sum(map(procs.cpu_ns, pids))
    answer = load(session.bench.client, candidate.target("hbone", port), session.seconds, h1=port == H1_PORT, **options)
    used = sum(map(procs.cpu_ns, pids)) - before
    return used / 1000 / answer["with_warmup"], answer["rps"]


def plain_h1(session, candidate):
    cpu, rps = measured(session, candidate)
    return {"plain_h1_rps": rps, **({"plain_h1_cpu": cpu} if candidate.pids() else {})}


def plain_h2(session, candidate):
    cpu, _ = measured(session, candidate, port=H2_PORT, clients=8, streams=8)
    return {"plain_h2_cpu": cpu} if candidate.pids() else {}


def grpc(session, candidate):
    """Unary calls: 64 bytes there and back, the status in trailers."""
    cpu, _ = measured(session, candidate, port=GRPC_PORT, clients=8, streams=8, headers=GRPC,
                      data=session.bench.path("message"))
    return {"grpc_cpu": cpu} if candidate.pids() else {}


def costs_more(session, candidate, case, files):
    """The CPU of a request with these files of configuration, by that without them: on and off by turns."""
    base, more = [], []
    for _ in range(3):
        base.append(measured(session, candidate)[0])
        for name, text in files.items():
            candidate.mesh.write(name, text)
        candidate.mesh.settle()
        time.sleep(0.5)
        try:
            more.append(measured(session, candidate)[0])
        finally:
            for name in files:
                candidate.mesh.remove(name)
            candidate.mesh.settle()
    return {case: statistics.median(more) / statistics.median(base)}


def routes_10k(session, candidate):
    return costs_more(session, candidate, "routes_10k_cpu", {"routes.yaml": virtual_services(1000, 10)})


def telemetry_on(session, candidate):
    made = costs_more(session, candidate, "telemetry_cpu", TELEMETRY)
    log = session.bench.path("access.log")
    if not os.path.exists(log) or not os.path.getsize(log):
        raise Failed("no access log was written")
    os.truncate(log, 0)
    return made


def mtls_h1(session, candidate):
    cpu, rps = measured(session, candidate)
    return {"mtls_h1_rps": rps, **({"mtls_h1_cpu": cpu} if candidate.pids() else {})}


def mtls_h1_half(session, candidate):
    """The rate is half of what Envoy's pair did, the same for all."""
    rates = session.samples.get("mtls_h1_rps", {})
    rate = min(min(values) for values in rates.values()) / 2 if rates else 5000
    log = session.bench.path("latency.log")
    load(session.bench.client, candidate.target("hbone", H1_PORT), session.seconds, rate=rate, clients=32, log=log)
    value = p99_us(log)
    os.unlink(log)
    return {"mtls_h1_p99_half": value} if value else {}


def mtls_h2(session, candidate):
    _, rps = measured(session, candidate, port=H2_PORT, clients=8, streams=8)
    return {"mtls_h2_rps": rps}


def mtls_h1_rules(session, candidate):
    """The server's side judges each request by method, path and who calls."""
    target = candidate.target("hbone", H1_PORT)
    refused = status(session.bench.client, target, "/admin")
    if refused != "403":
        raise Failed(f"the rules are not in force: /admin is answered with {refused}")
    cpu, rps = measured(session, candidate)
    return {"mtls_h1_rules_rps": rps, "mtls_h1_rules_cpu": cpu}


def idle_h2(session, candidate):
    """Growth of the proxy's own memory by each of 10,000 HTTP/2 connections with a request under way."""
    candidate.restart() if hasattr(candidate, "restart") else None
    measured(session, candidate, port=H2_PORT, clients=1)
    pid = candidate.pids()[0]
    before = procs.own_bytes(pid)
    with Held(session.bench.client, candidate.target("hbone", H2_PORT), IDLE_CONNECTIONS):
        growth = procs.own_bytes(pid) - before
    return {"idle_h2_conn_bytes": growth / IDLE_CONNECTIONS}


# (measure, its cases, the candidates or all, rounds or as told)
ONE_HOP = ((plain_h1, ("plain_h1_cpu", "plain_h1_rps"), None, None),
           (plain_h2, ("plain_h2_cpu",), ("envoy", "weft"), None),
           (grpc, ("grpc_cpu",), ("envoy", "weft"), None),
           (routes_10k, ("routes_10k_cpu",), ("weft",), None),
           (telemetry_on, ("telemetry_cpu",), ("weft",), None),
           (idle_h2, ("idle_h2_conn_bytes",), ("envoy", "weft"), 1))
TWO_NODES = ((mtls_h1, ("mtls_h1_rps", "mtls_h1_cpu"), None, None),
             (mtls_h1_half, ("mtls_h1_p99_half",), None, None),
             (mtls_h2, ("mtls_h2_rps",), None, None))
JUDGED = ((mtls_h1_rules, ("mtls_h1_rules_rps", "mtls_h1_rules_cpu"), None, None),)


def run(session, wanted):
    with open(session.bench.path("message"), "wb") as file:
        file.write(MESSAGE)
    everything = session.candidates
    for kinds, measures in ((HOPS, ONE_HOP), (NODES, TWO_NODES), (RULES, JUDGED)):
        session.candidates = [candidate for candidate in everything if type(candidate) in kinds]
        for measure, cases, names, rounds in measures:
            if wanted & set(cases):
                session.alternate(measure, names=names, runs=rounds)
    seen = {}  # one column for a name, though two do its work
    for candidate in everything:
        seen.setdefault(candidate.name, candidate)
    session.candidates = list(seen.values())
