# SPDX-License-Identifier: Apache-2.0
"""h2spec through the real helper: to the calling pod's, and to that of a pod whose rules are HTTP's."""
import os
import re
import subprocess

import pytest

from lib import web
from lib.mesh import service
from lib.net import Net
from lib.shell import BUILD, ROOT, wait_for
from lib.web import get

RUN = os.path.join(ROOT, "tests/h2spec/run")
POLICY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: anything, namespace: shop }
spec:
  selector: { matchLabels: { app: payments } }
  rules: [ { to: [ { operation: { notPaths: [ /private ] } } ] } ]
"""


@pytest.fixture(scope="module")
def h2spec():
    """Fetched before the namespaces are entered, which have no way out."""
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run([RUN, BUILD, "--install"], capture_output=True, text=True, env=environment)
    if done.returncode != 0 or "SKIP" in done.stdout:
        pytest.skip(done.stdout.strip() or done.stderr.strip())


@pytest.fixture(scope="module")
def town(h2spec, tmp_path_factory):
    with Net(tmp_path_factory.mktemp("h2spec")) as net:
        direct = service("direct", "shop", [("http2", 80, 8081, "TCP")], ["10.60.0.82"], app="payments")
        made = web.build(net, more=direct)
        made.mesh.write("30-policy.yaml", POLICY)
        made.mesh.settle()
        made.payments.spawn(os.path.join(BUILD, "h2spec/server"), 8081, 1800, "0.0.0.0", name="h2-payments").wait_output("ready")
        yield made


def totals(place, address, port):
    done = place.run(RUN, BUILD, address, port, check=False, timeout=900)
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert found, done.stdout[-3000:] + done.stderr[-1000:]
    count, passed, _, _ = map(int, found.groups())
    assert count >= 145 and passed == count, done.stdout.partition("Failures:")[2]


def test_the_callers_helper(town):
    assert get(town.frontend, "http://10.60.0.20/", "--http2-prior-knowledge").status == 200
    totals(town.frontend, "10.60.0.20", 80)


def test_the_servers_helper(town):
    """Whose application speaks HTTP/2, too: it is spoken to as its clients speak. The port is declared, or what is no HTTP would
    meet the rules on connections, and its end would be a reset."""
    address = town.payments.ip4
    wait_for("the rule to be in force", lambda: get(town.stranger, f"http://{address}:8080/private").status == 403)
    assert get(town.stranger, f"http://{address}:8081/", "--http2-prior-knowledge").status == 200
    totals(town.stranger, address, 8081)
