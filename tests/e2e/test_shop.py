# SPDX-License-Identifier: Apache-2.0
"""The example application, with the configuration as its users wrote it (tests/data/shop), on real servers: what its
documents say is what happens."""
import os

import pytest

from lib import traffic, web
from lib.mesh import Mesh
from lib.net import Net
from lib.shell import ROOT, wait_for
from lib.traffic import call
from lib.web import get, load

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
        for pod, name in ((shop.frontend, "frontend"), (shop.catalog_1, "v1"), (shop.catalog_2, "v2"),
                          (shop.payments, "payments")):
            web.serve(pod, name=name)
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


CATALOG, PAYMENTS = "http://10.60.0.20", "http://10.60.0.30"


@pytest.mark.parametrize("url", [CATALOG, "http://[fd60::20]", "http://catalog.shop"])
def test_testers_get_the_second_version(town, url):
    assert get(town.frontend, url, headers={"X-Canary": "true"}).name == "v2"
    assert get(town.frontend, url + "/?canary=1").name == "v2"


def test_europe_is_served_by_the_first(town):
    for region in ("EU", "UK", "CH"):
        answer = get(town.frontend, CATALOG, headers={"X-Region": region})
        assert answer.name == "v1" and answer.header("x-served-by") == "eu"
    assert get(town.frontend, CATALOG, headers={"X-Region": "EUX"}).header("x-served-by") is None


def test_most_of_the_others_get_the_first_version(town):
    seen = load(town.frontend, "10.60.0.20", requests=2000, connections=4)
    assert seen["failed"] == 0 and seen["status"] == {"200": 2000}
    assert 40 <= seen["server"]["v2"] <= 170, seen  # 5 % and four standard deviations


def test_the_default_route_retries(town):
    answer = get(town.frontend, CATALOG + "/?fail=2&key=shop-retry")
    assert answer.status == 200 or answer.seen("x-envoy-attempt-count") is None, answer


def test_payments_take_what_the_rules_allow(town):
    ok = {"X-Tenant": "gold"}
    assert get(town.frontend, PAYMENTS + "/api/v1/pay", method="POST", headers=ok, data="1").status == 200
    assert get(town.frontend, PAYMENTS + "/api/v1/refund/7", method="POST", headers=ok, data="1").status == 200
    for path, method, headers in (("/api/v1/pay", "GET", ok), ("/api/v1/refund/7/8", "POST", ok),
                                  ("/api/v1/pay", "POST", {"X-Tenant": "lead"}), ("/metrics", "GET", ok)):
        answer = get(town.frontend, PAYMENTS + path, method=method, headers=headers)
        assert answer.status == 403 and answer.body == "RBAC: access denied", (path, method, headers, answer)
    assert get(town.catalog_1, PAYMENTS + "/api/v1/pay", method="POST", headers=ok, data="1").status == 403


def test_payments_without_a_tenant_are_answered_by_the_script(town):
    answer = get(town.frontend, PAYMENTS + "/api/v1/pay", method="POST", data="1")
    assert answer.status == 403 and answer.body in ("tenant required", "RBAC: access denied"), answer


def test_frontend_wants_valid_tokens(town):
    url = f"http://{town.frontend.ip4}:8080/"
    assert get(town.catalog_1, url).status == 200
    assert get(town.catalog_1, url, headers={"X-Partner-Token": "Partner not.a.token"}).status == 401


def test_requests_are_logged_and_counted(town):
    agent = town.agents["node-a"]
    get(town.frontend, CATALOG)
    wait_for("the request to be counted", lambda: agent.metric(
        "istio_requests_total", destination_service="catalog.shop.svc.cluster.local", reporter="source") > 0)


def test_registry_only_holds(town):
    assert call(town.frontend, "10.50.2.90", 8080)["error"] in ("EPERM", "ECONNREFUSED")
