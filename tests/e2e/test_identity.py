# SPDX-License-Identifier: Apache-2.0
"""Certificates on live traffic: Istio's cacerts with an intermediate, a change of roots, revocation, RSA keys."""
import json
import os

import pytest

from lib import town as towns
from lib.net import Net
from lib.shell import run, wait_for
from lib.town import Town, base_config, pods, servers
from lib.traffic import call, held, hold


def key_and_root(directory, name):
    paths = os.path.join(directory, f"{name}.key"), os.path.join(directory, f"{name}.pem")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", f"/O={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
        "keyUsage=critical,keyCertSign,cRLSign", "-keyout", paths[0], "-out", paths[1])
    return paths


def cacerts(directory, target, root="root"):
    """Istio's four files, signed by an intermediate."""
    os.makedirs(directory, exist_ok=True)
    os.makedirs(target, exist_ok=True)
    root_key, root_pem = key_and_root(directory, root)
    key, csr, pem = (os.path.join(directory, f"{root}-ca.{end}") for end in ("key", "csr", "pem"))
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
        f"/O={root} intermediate", "-keyout", key, "-out", csr)
    ext = os.path.join(directory, "ext")
    with open(ext, "w", encoding="ascii") as file:
        file.write("basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n")
    run("openssl", "x509", "-req", "-in", csr, "-CA", root_pem, "-CAkey", root_key, "-CAcreateserial", "-days", "30",
        "-extfile", ext, "-out", pem)

    def read(path):
        with open(path, encoding="ascii") as file:
            return file.read()
    # ca-cert.pem last: it is the file whose change completes the set
    for name, text in (("ca-key.pem", read(key)), ("root-cert.pem", read(root_pem)),
                       ("cert-chain.pem", read(pem) + read(root_pem)), ("ca-cert.pem", read(pem))):
        path = os.path.join(target, name)
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path + ".new", 0o600)
        os.rename(path + ".new", path)


def certificates(agent):
    return json.loads(agent.meshctl("cert", "list", "-o", "json").stdout)["items"]


@pytest.fixture
def town(tmp_path):
    with Net(tmp_path) as net:
        pods(net)
        servers(net)
        made = Town(net)
        made.mesh.write("00-workloads.yaml", base_config(net))
        yield made


def test_istios_cacerts_with_an_intermediate(town, tmp_path):
    cacerts(str(tmp_path / "pki"), town.mesh.ca)
    town.mesh.start()
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    assert call(town.frontend, "fd60::30", 7000)["ok"]


def test_change_of_roots_breaks_nothing(town, tmp_path):
    cacerts(str(tmp_path / "old"), town.mesh.ca, "old")
    town.mesh.start()
    going = hold(town.frontend, "10.60.0.30", 7000, 12)
    before = {row["serial"] for row in certificates(town.agent("node-a"))}
    cacerts(str(tmp_path / "new"), town.mesh.ca, "new")
    for agent in town.mesh.agents.values():
        wait_for("certificates by the new root", lambda a=agent: {row["serial"] for row in certificates(a)} - before)
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]
    assert call(town.catalog_2, "10.60.0.40", 80)["ok"], "the other way, too"
    assert held(going)


def test_rsa_keys(town):
    town.mesh.write("10-mesh.yaml", "weft: { certificates: { keyType: RSA-2048 } }\n")
    town.mesh.start()
    assert call(town.frontend, "10.60.0.30", 7000)["ok"]


def test_revocation_cuts_live_connections_and_refuses_new_ones(town):
    town.mesh.start()
    going = hold(town.frontend, "10.60.0.30", 7000, 600)
    serials = [row["serial"] for row in certificates(town.agent("node-a")) if "frontend" in row["identity"]]
    assert serials
    for serial in serials:
        town.agent("node-b").meshctl("cert", "revoke", serial)
    assert not held(going)
    before = town.agent("node-b").metric("weft_drops_total", reason="tls_revoked")
    assert not call(town.frontend, "10.60.0.30", 7000)["ok"]
    wait_for("the refusal to be counted",
             lambda: town.agent("node-b").metric("weft_drops_total", reason="tls_revoked") > before)
    town.agent("node-a").meshctl("cert", "rotate", "--all")
    wait_for("a new certificate to work", lambda: call(town.frontend, "10.60.0.30", 7000)["ok"])


def test_keys_and_roots_are_private_files(town):
    town.mesh.start()
    path = os.path.join(town.mesh.ca, "ca-key.pem")
    assert os.stat(path).st_mode & 0o777 == 0o600
    text = town.agent("node-a").meshctl("cert", "show", towns.principal("frontend"), check=False).stdout
    assert "PRIVATE" not in text


def test_wrong_trust_domain_is_refused_and_said(town, tmp_path):
    """Two nodes that were set up apart do not trust each other."""
    town.mesh.start()
    agent = town.agent("node-b")
    agent.kill()
    agent.ca = str(tmp_path / "apart")
    agent.start()
    seen = call(town.frontend, "10.60.0.30", 7000)
    assert not seen["ok"]
    wait_for("the refusal to be counted", lambda: sum(
        town.agent(node).metric("weft_drops_total", reason="tls_untrusted") for node in ("node-a", "node-b")))
