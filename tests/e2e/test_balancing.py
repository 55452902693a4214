# SPDX-License-Identifier: Apache-2.0
"""Which endpoint a connection gets: weights, algorithms, affinity, ejection. Three endpoints of one service: two on the
caller's node, one on the other."""
import json
import time
from collections import Counter

import pytest

from lib.mesh import namespace, service, workload
from lib.shell import wait_for
from lib.town import Town, servers
from lib import town as towns
from lib.net import Net
from lib.traffic import PYTHON, call, churn, churned

MANY = """
import collections, socket, sys, json
seen = collections.Counter()
for i in range(int(sys.argv[3])):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 60)
    seen[json.loads(s.makefile().readline())['name']] += 1
    s.close()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("balance")) as net:
        towns.pods(net)
        servers(net)
        town = Town(net)
        town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        write(town)
        town.mesh.start()
        yield town


def write(town, weights=(1, 1, 1), rule="", extra=""):
    """Service `all` on port 80: frontend's own node has catalog-1 and frontend itself, the other catalog-2."""
    pods = town.net.pods
    text = namespace("shop")
    for name, weight in zip(("catalog-1", "frontend", "catalog-2"), weights):
        text += workload(pods[name], "shop", "all", account=name, extra=f", weight: {weight}")
    text += workload(pods["payments"], "shop", "payments")
    text += service("all", "shop", [("tcp", 80, 8080, "TCP")], ["10.60.0.70", "fd60::70"], extra=extra)
    if rule:
        text += ("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: all, namespace: shop }\n"
                 f"spec: {{ host: all, trafficPolicy: {rule} }}\n")
    town.mesh.write("00-workloads.yaml", text)


def spread(place, n=300, vip="10.60.0.70"):
    return Counter(json.loads(place.run(PYTHON, "-c", MANY, vip, 80, n).stdout))


def test_default_uses_every_endpoint(town):
    write(town)
    town.mesh.settle()
    for vip in ("10.60.0.70", "fd60::70"):
        seen = spread(town.frontend, vip=vip)
        assert set(seen) == {"catalog-1", "frontend", "catalog-2"} and min(seen.values()) > 30, seen


def test_round_robin_is_even(town):
    write(town, rule="{ loadBalancer: { simple: ROUND_ROBIN } }")
    town.mesh.settle()
    seen = spread(town.frontend, 300)
    assert max(seen.values()) - min(seen.values()) <= 4, seen


def test_weights_are_kept(town):
    write(town, weights=(6, 3, 1), rule="{ loadBalancer: { simple: ROUND_ROBIN } }")
    town.mesh.settle()
    seen = spread(town.frontend, 500)
    assert abs(seen["catalog-1"] - 300) <= 12 and abs(seen["frontend"] - 150) <= 12, seen
    write(town, weights=(6, 3, 1), rule="{ loadBalancer: { simple: RANDOM } }")
    town.mesh.settle()
    seen = spread(town.frontend, 1000)
    assert abs(seen["catalog-1"] - 600) < 105 and abs(seen["catalog-2"] - 100) < 70, seen  # nearly seven standard deviations


def test_consistent_hash_gives_a_source_one_endpoint(town):
    write(town, rule="{ loadBalancer: { consistentHash: { useSourceIp: true } } }")
    town.mesh.settle()
    for place in (town.frontend, town.catalog_1, town.payments):
        assert len(spread(place, 40)) == 1


def test_session_affinity_lasts_its_time(town):
    affinity = "  sessionAffinity: ClientIP\n  sessionAffinityConfig: { clientIP: { timeoutSeconds: %d } }\n"
    write(town, rule="{ loadBalancer: { simple: RANDOM } }", extra=affinity % 3600)
    town.mesh.settle()
    assert len(spread(town.frontend, 40)) == 1
    write(town, rule="{ loadBalancer: { simple: RANDOM } }", extra=affinity % 1)
    town.mesh.settle()
    seen = set()
    for _ in range(40):  # a session that is over may go elsewhere, two times out of three
        time.sleep(1.2)
        seen |= set(spread(town.frontend, 1))
        if len(seen) > 1:
            break
    assert len(seen) > 1


def test_least_request_avoids_the_busy_endpoint(town):
    write(town, rule="{ loadBalancer: { simple: LEAST_REQUEST } }")
    town.mesh.settle()
    busy = ("import socket,sys,time\nheld=[]\n"
            "for i in range(60): held.append(socket.create_connection((sys.argv[1],8080)))\n"
            "print('held',flush=True); time.sleep(600)")
    holder = town.payments.spawn(PYTHON, "-c", busy, town.catalog_2.ip4).wait_output("held")
    seen = spread(town.payments, 200)
    holder.stop()
    assert seen["catalog-2"] < 10, seen


def burst(town):
    return churned(churn(town.frontend, "10.60.0.70", 80, 0.5))


def test_endpoints_that_fail_to_connect_are_ejected_and_come_back(town):
    write(town, rule="{ loadBalancer: { simple: ROUND_ROBIN }, outlierDetection: { consecutiveLocalOriginFailures: 2, "
                     "splitExternalLocalOriginErrors: true, consecutive5xxErrors: 2, interval: 1s, "
                     "baseEjectionTime: 6s, maxEjectionPercent: 100 } }")
    town.mesh.settle()
    server = next(p for p in town.net.processes if p.name == "serve-catalog-1")
    server.stop()
    refused = []

    def twice():
        refused.extend(burst(town)["failed"])
        return len(refused) >= 2
    wait_for("the endpoint to refuse", twice)

    def ejected():
        seen = burst(town)
        return seen["rounds"] >= 6 and not seen["failed"]
    wait_for("the endpoint not to be asked any more", ejected)
    from lib import traffic
    traffic.serve(town.catalog_1, 8080)
    wait_for("the endpoint to be back", lambda: "catalog-1" in spread(town.frontend, 6))


def test_service_without_endpoints_refuses(town):
    write(town)
    town.mesh.write("80.yaml", service("empty", "shop", [("tcp", 80, 8080, "TCP")], ["10.60.0.71"], app="nobody"))
    town.mesh.settle()
    before = town.agent("node-a").metric("weft_drops_total", reason="no_endpoint")
    assert call(town.frontend, "10.60.0.71", 80)["error"] == "ECONNREFUSED"
    assert town.agent("node-a").metric("weft_drops_total", reason="no_endpoint") == before + 1
    town.mesh.remove("80.yaml")
