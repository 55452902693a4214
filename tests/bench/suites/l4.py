# SPDX-License-Identifier: Apache-2.0
"""The L4 mesh: connections within a node and between nodes, what idling costs, how fast configuration takes effect."""
import time

from lib import configs, procs
from lib.load import ECHO_PORT, SINK_PORT, Background, client
from lib.measure import Case

GBIT = 8 / 1e9
CASES = [
    Case("samenode_bulk", "Gbit/s", "higher", ("direct", ">=", 0.98)),
    Case("samenode_rr", "1/s", "higher", ("direct", ">=", 0.98)),
    Case("samenode_rr_p99", "us", "lower"),
    Case("connect_p50", "us", "lower", ("extra", "<=", 3)),
    Case("hbone_bulk", "Gbit/s", "higher", ("envoy", ">=", 1.25, "aim 1.5")),
    Case("hbone_rr", "1/s", "higher", ("envoy", ">=", 1.2, "aim 1.5")),
    Case("hbone_rr_p99", "us", "lower", ("envoy", "<=", 1)),
    Case("hbone_rr_cpu", "us", "lower", ("envoy", "<=", 0.6)),
    Case("hbone_crr", "1/s", "higher", ("envoy", ">=", 2)),
    Case("idle_rss_agent", "MiB", "lower", ("value", "<=", 9, "15 with helper")),
    Case("idle_rss_helper", "MiB", "lower", ("value", "<=", 6)),
    Case("idle_conn_bytes", "B", "lower", ("value", "<=", 5120)),
    Case("config_small_p99", "ms", "lower", ("value", "<=", 20)),
    Case("config_large_p99", "ms", "lower", ("value", "<=", 50)),
    Case("start_small", "ms", "lower", ("value", "<=", 500)),
    Case("start_large", "ms", "lower", ("value", "<=", 2000)),
]
BULK_STREAMS, CRR_STREAMS, IDLE_CONNECTIONS = 2, 4, 10000


def bulk(session, candidate, server):
    candidate.warm(server, ECHO_PORT)
    answer = client(session.bench.client, "bulk", candidate.target(server, SINK_PORT), seconds=session.seconds,
                    streams=BULK_STREAMS)
    candidate.verify(server)
    return {f"{server}_bulk": answer["per_second"] * GBIT}


def samenode_bulk(session, candidate):
    return bulk(session, candidate, "samenode")


def hbone_bulk(session, candidate):
    return bulk(session, candidate, "hbone")


def rr(session, candidate, server):
    """Round trips of 64 bytes on one connection; the CPU time is of the run's proxies, of all their threads."""
    candidate.warm(server, ECHO_PORT)
    pids = candidate.pids()
    before = sum(map(procs.cpu_ns, pids))
    answer = client(session.bench.client, "rr", candidate.target(server, ECHO_PORT), seconds=session.seconds)
    used_us = (sum(map(procs.cpu_ns, pids)) - before) / 1000
    candidate.verify(server)
    values = {f"{server}_rr": answer["per_second"], f"{server}_rr_p99": answer["p99_us"]}
    if pids and server == "hbone":
        values["hbone_rr_cpu"] = used_us / answer["with_warmup"]
    return values


def samenode_rr(session, candidate):
    return rr(session, candidate, "samenode")


def hbone_rr(session, candidate):
    return rr(session, candidate, "hbone")


def connect(session, candidate):
    candidate.warm("samenode", ECHO_PORT)
    answer = client(session.bench.client, "connect", candidate.target("samenode", ECHO_PORT),
                    seconds=session.seconds / 2)
    candidate.verify("samenode")
    return {"connect_p50": answer["p50_us"]}


def hbone_crr(session, candidate):
    candidate.warm("hbone", ECHO_PORT)
    answer = client(session.bench.client, "crr", candidate.target("hbone", ECHO_PORT), seconds=session.seconds,
                    streams=CRR_STREAMS)
    candidate.verify("hbone")
    return {"hbone_crr": answer["per_second"]}


def idle(session, candidate):
    """Memory after a fresh start, and its growth on the costlier side with 10,000 connections open."""
    candidate.restart()
    time.sleep(1)  # start-up work is over: the memory of an idle process is asked for
    proxies = candidate.proxies()
    values = {"idle_rss_helper": max(map(procs.rss_bytes, proxies.values())) / 2**20}
    if hasattr(candidate, "agent_memory"):
        values["idle_rss_agent"] = candidate.agent_memory() / 2**20
    candidate.warm("hbone", ECHO_PORT)
    warm = {side: procs.own_bytes(pid) for side, pid in proxies.items()}
    with Background(session.bench.client, "idle", *candidate.target("hbone", ECHO_PORT), "--count",
                    IDLE_CONNECTIONS) as clients:
        clients.line()
        time.sleep(1)
        growth = max(procs.own_bytes(pid) - warm[side] for side, pid in proxies.items())
    values["idle_conn_bytes"] = growth / IDLE_CONNECTIONS
    return values


def run(session, wanted):
    """Measures what is needed for the cases in `wanted`."""
    for measure, cases in ((samenode_bulk, ["samenode_bulk"]), (samenode_rr, ["samenode_rr", "samenode_rr_p99"]),
                           (connect, ["connect_p50"]), (hbone_bulk, ["hbone_bulk"]),
                           (hbone_rr, ["hbone_rr", "hbone_rr_p99", "hbone_rr_cpu"]), (hbone_crr, ["hbone_crr"])):
        if wanted & set(cases):
            session.alternate(measure)
    if wanted & {"idle_rss_agent", "idle_rss_helper", "idle_conn_bytes"}:
        session.alternate(idle, names=("weft", "envoy"), runs=1 if session.quick else 3)
    configs.run(session, wanted)
