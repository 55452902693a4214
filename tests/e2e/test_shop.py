# SPDX-License-Identifier: Apache-2.0
"""The example application, with the configuration as its users wrote it (tests/data/shop), on real servers: what its
L4 documents say is what happens."""
import os

import pytest

from lib import traffic
from lib.mesh import Mesh
from lib.net import Net
from lib.shell import ROOT
from lib.traffic import call

SHOP = os.path.join(ROOT, "tests", "data", "shop")


class Shop:
    pass


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("shop")) as net:
        net.node("node-a")
        net.node("node-b")
        shop = Shop()
        shop.net = net
        shop.frontend = net.pod("frontend-1", "node-a", 10)
        shop.catalog_1 = net.pod("catalog-1", "node-a", 20)
        shop.catalog_2 = net.pod("catalog-2", "node-b", 20)
        shop.payments = net.pod("payments-1", "node-b", 30)
        shop.stranger = net.pod("stranger", "node-b", 90)
        for pod in (shop.catalog_1, shop.catalog_2):
            traffic.serve(pod, 8080)
            traffic.serve(pod, 9090)
        traffic.serve(shop.payments, 7000)
        traffic.serve(shop.payments, 7001, udp=True)
        shop.mesh = Mesh(net)
        names = [(f"weft.dev/netns: {pod.name}", f"weft.dev/netns: {pod.netns}") for pod in net.pods.values()]
        shop.mesh.copy(SHOP, sorted(name for name in os.listdir(SHOP) if name.endswith(".yaml")), names)
        shop.mesh.start()
        shop.agents = shop.mesh.agents
        yield shop


def test_every_document_loads_without_a_warning(town):
    for agent in town.agents.values():
        assert agent.api("/v1/status")["config"]["problems"] == []


def test_frontend_reaches_the_ledger_by_rule(town):
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    assert call(town.frontend, "10.60.0.30", 7000, family="mapped")["ok"]


def test_catalog_may_not_call_the_ledger(town):
    for pod, address in ((town.catalog_1, "10.60.0.30"), (town.catalog_2, "10.60.0.30")):
        assert not call(pod, address, 7000, family="mapped" if pod is town.catalog_2 else "4")["ok"]


def test_strangers_are_refused_by_strict(town):
    assert call(town.stranger, town.payments.ip4, 7000)["error"] == "ECONNREFUSED"
    assert call(town.stranger, town.catalog_2.ip6, 8080)["error"] == "ECONNREFUSED"


def test_notify_takes_plaintext_datagrams(town):
    assert call(town.frontend, "10.60.0.30", 7001, udp=True)["ok"]


def test_catalog_reaches_both_versions_by_either_family(town):
    for vip in ("10.60.0.20", "fd60::20"):
        names = {call(town.frontend, vip, 9090)["answer"]["name"] for _ in range(24)}
        assert names <= {"catalog-1", "catalog-2"} and names, vip


def test_registry_only_holds(town):
    assert call(town.frontend, "10.50.2.90", 8080)["error"] in ("EPERM", "ECONNREFUSED")
