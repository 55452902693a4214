# SPDX-License-Identifier: Apache-2.0
"""The configuration directory: changes, mistakes, revisions."""
import os
import time

from lib.shell import wait_for
from lib.traffic import call


def problems(town, node="node-a"):
    return town.agent(node).api("/v1/status")["config"]["problems"]


def test_change_takes_effect_and_does_not_disturb_others(town):
    from lib.mesh import service
    assert not call(town.frontend, "10.60.0.99", 80, timeout=1)["ok"]
    town.mesh.write("70.yaml", service("late", "shop", [("tcp", 80, 8080, "TCP")], ["10.60.0.99"], app="catalog"))
    wait_for("the new service", lambda: call(town.frontend, "10.60.0.99", 80)["ok"])
    town.mesh.remove("70.yaml")
    wait_for("it to be gone", lambda: not call(town.frontend, "10.60.0.99", 80, timeout=1)["ok"])
    assert call(town.frontend, "10.60.0.40", 80)["ok"]


def test_bad_document_is_rejected_alone_with_place_and_suggestion(town):
    good = ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
            "metadata: { name: one, namespace: shop }\nspec: { action: DENY, rules: [ { from: [ { source: "
            "{ namespaces: [ nowhere ] } } ] } ] }\n")
    bad = good.replace("one", "two").replace("action: DENY", "action: REFUSE")
    town.mesh.write("71.yaml", good + "---\n" + bad)
    try:
        problem = wait_for("the rejection", lambda: [p for p in problems(town) if "two" in p["key"]])[0]
        assert problem["origin"].startswith("71.yaml:")
        assert "REFUSE" in problem["text"] and "DENY" in problem["text"], problem
        shown = town.agent("node-a").meshctl("status", check=False).stdout
        assert "71.yaml" in shown and "REFUSE" in shown, shown
        assert "AuthorizationPolicy/shop/one" in str(town.agent("node-a").api("/v1/resources/authorizationpolicy"))
    finally:
        town.mesh.remove("71.yaml")
        town.mesh.settle()
    assert not problems(town)


def test_misspelt_field_is_named_with_the_right_one(town):
    """A warning where it can do no harm; a policy with one is rejected, for it could be the field that refuses."""
    town.mesh.write("72.yaml", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
                               "metadata: { name: typo, namespace: shop }\nspec: { mtsl: { mode: STRICT } }\n---\n"
                               "apiVersion: v1\nkind: Service\nmetadata: { name: typo, namespace: shop }\n"
                               "spec: { clusterIPs: [ 10.60.0.97 ], sesionAffinity: None, ports: [ { port: 80 } ] }\n")
    try:
        found = wait_for("both", lambda: (p := [p for p in problems(town) if "typo" in p["key"]]) and len(p) == 2 and p)
        policy, service = sorted(found, key=lambda p: p["key"])
        assert "mtsl" in policy["text"] and "mtls" in policy["text"] and not policy["warning"], policy
        assert "sesionAffinity" in service["text"] and "sessionAffinity" in service["text"] and service["warning"], service
    finally:
        town.mesh.remove("72.yaml")
        town.mesh.settle()


def test_last_good_version_stays_in_force(town):
    text = ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: keep, namespace: shop }\n"
            "spec: { selector: { matchLabels: { app: catalog } }, action: DENY, rules: [ {} ] }\n")
    town.mesh.write("73.yaml", text)
    town.mesh.settle()
    try:
        assert not call(town.frontend, "10.60.0.40", 80)["ok"]
        town.mesh.write("73.yaml", text.replace("rules: [ {} ]", "rules: no-list"))
        wait_for("the rejection", lambda: [p for p in problems(town) if "keep" in p["key"] and p["last_good"]])
        assert not call(town.frontend, "10.60.0.40", 80)["ok"], "the last good version denies"
    finally:
        town.mesh.remove("73.yaml")
        town.mesh.settle()
    assert call(town.frontend, "10.60.0.40", 80)["ok"]


def test_rollback_restores_an_earlier_revision(town):
    from lib.mesh import service
    agent = town.agent("node-a")
    first = town.mesh.revision("node-a")
    town.mesh.write("74.yaml", service("roll", "shop", [("tcp", 80, 8080, "TCP")], ["10.60.0.98"], app="catalog"))
    wait_for("the next revision", lambda: town.mesh.revision("node-a") > first)
    second = town.mesh.revision("node-a")
    assert "roll" in agent.meshctl("config", "diff", str(first), str(second), check=False).stdout
    agent.meshctl("config", "rollback", str(first))
    wait_for("the rollback", lambda: not call(town.frontend, "10.60.0.98", 80, timeout=1)["ok"])
    assert "roll" in agent.meshctl("status", check=False).stdout
    town.mesh.remove("74.yaml")
    town.mesh.settle()
    assert str(first) in agent.meshctl("config", "history").stdout


def test_vanished_directory_keeps_the_last_good_configuration(town):
    moved = town.mesh.config + ".away"
    os.rename(town.mesh.config, moved)
    try:
        time.sleep(0.3)
        assert call(town.frontend, "10.60.0.40", 80)["ok"]
        wait_for("status to say so", lambda: town.mesh.config in str(problems(town)))
    finally:
        os.rename(moved, town.mesh.config)
    wait_for("recovery", lambda: not problems(town))
    assert call(town.frontend, "10.60.0.40", 80)["ok"]


def test_hostile_documents_do_not_harm(town):
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    town.mesh.write("75.yaml", bomb)
    town.mesh.write("76.yaml", "[" * 100000)
    with open(os.path.join(town.mesh.config, "77.yaml"), "wb") as file:
        file.truncate(100 << 20)
    try:
        for name in ("75.yaml", "76.yaml", "77.yaml"):
            wait_for(f"{name} to be rejected",
                     lambda n=name: [p for p in problems(town) if p["origin"].startswith(n)])
        assert call(town.frontend, "10.60.0.40", 80)["ok"]
        with open(f"/proc/{town.agent('node-a').process.pid}/statm", encoding="ascii") as file:
            assert int(file.read().split()[1]) * 4 < 64 << 10, "resident KiB of the agent"
    finally:
        for name in ("75.yaml", "76.yaml", "77.yaml"):
            town.mesh.remove(name)
        town.mesh.settle()
