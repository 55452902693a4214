# SPDX-License-Identifier: Apache-2.0
"""Two pods of one node: one pass through the helper serves both, without a socket between them."""
import pytest

from lib import web
from lib.net import Net
from lib.web import get

RULE = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: rules, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  rules:
  - from: [ { source: { principals: [ cluster.local/ns/shop/sa/frontend ] } } ]
    to: [ { operation: { paths: [ /public* ] } } ]
"""
CATALOG = "http://10.60.0.40/"


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("beside")) as net:
        made = web.build(net, more=web.service("near", "shop", [("http", 80, 8080, "TCP")], ["10.60.0.40", "fd60::40"],
                                               app="catalog, version: v1"))
        made.mesh.write("30-policy.yaml", RULE)
        made.mesh.settle()
        yield made


def joined(town):
    return town.agent("node-a").metric("weft_helper_http_joined_total")


def test_rules_hold_and_no_socket_lies_between(town):
    before = joined(town)
    for host in ("10.60.0.40", "[fd60::40]"):
        answer = get(town.frontend, f"http://{host}/public/a")
        assert answer.status == 200 and answer.name == "catalog-1"
        assert answer.json["peer"].rpartition(":")[0].strip("[]") in (town.frontend.ip4, town.frontend.ip6)
        assert "sa/frontend" in answer.seen("x-forwarded-client-cert")
        assert get(town.frontend, f"http://{host}/private").status == 403
    assert joined(town) > before


def test_others_are_refused(town):
    assert get(town.payments, f"{CATALOG}public").status == 403  # over HBONE
    before = joined(town)
    assert get(town.stranger, f"http://{town.catalog_1.ip4}:8080/public").status == 403
    assert joined(town) == before


def test_without_rules_there_is_one_side_alone(town):
    town.mesh.remove("30-policy.yaml")
    town.mesh.settle()
    before = joined(town)
    assert get(town.catalog_1, f"http://{town.frontend.ip4}:8080/").status == 200
    assert joined(town) == before
    town.mesh.write("30-policy.yaml", RULE)
    town.mesh.settle()
