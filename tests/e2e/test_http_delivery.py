# SPDX-License-Identifier: Apache-2.0
"""Progressive delivery as teams practise it: how a new version gets its first users, its share, all of them, and how it
loses them again. catalog-1 is v1, catalog-2 is v2; the pod called stranger is a workload of the namespace team here."""
import contextlib
import os
import time

import pytest

from lib import web
from lib.mesh import namespace, workload
from lib.net import Net
from lib.shell import until_seen, wait_for
from lib.web import get, load

CATALOG, PAYMENTS = "http://10.60.0.20", "http://10.60.0.30"
OLD, NEW = "catalog-1", "catalog-2"
VERSIONS = "subsets: [ { name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } } ]"
TO_OLD, TO_NEW = ("route: [ { destination: { host: catalog, subset: v1 } } ]",
                  "route: [ { destination: { host: catalog, subset: v2 } } ]")


def istio(kind, name, spec, ns="shop"):
    return f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{ name: {name}, namespace: {ns} }}\nspec: {spec}\n---\n"


def routes(*rules, name="catalog", host="catalog", more=""):
    listed = ", ".join(f"{{ {rule} }}" for rule in rules)
    return istio("VirtualService", name, f"{{ hosts: [ {host} ], {more} http: [ {listed} ] }}")


def rule(text=VERSIONS, host="catalog"):
    return istio("DestinationRule", host, f"{{ host: {host}, {text} }}")


def http_route(rules):
    return ("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: catalog, namespace: shop }\n"
            f"spec: {{ parentRefs: [ {{ group: '', kind: Service, name: catalog }} ], rules: [ {rules} ] }}\n---\n")


def service(name, vip, labels, target=8080):
    return (f"apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ clusterIPs: [ {vip} ], "
            f"selector: {{ {labels} }}, ports: [ {{ name: http, port: 80, targetPort: {target} }} ] }}\n---\n")


def shares(old, new):
    return ("route: [ { destination: { host: catalog, subset: v1 }, weight: %d }, "
            "{ destination: { host: catalog, subset: v2 }, weight: %d } ]" % (old, new))


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("delivery")) as net:
        made = web.build(net)
        made.mesh.write("01-team.yaml", namespace("team") + workload(net.pods["stranger"], "team", "tester"))
        made.mesh.settle()
        yield made


@pytest.fixture(autouse=True)
def no_documents(town):
    yield
    apply(town)


def problems(town):
    return [problem for agent in town.mesh.agents.values() for problem in agent.api("/v1/status")["config"]["problems"]]


def apply(town, *documents, sound=True):
    """One file in one rename: what a deployment changes, it changes at once."""
    town.mesh.write("21-delivery.yaml", "".join(documents))
    town.mesh.settle()
    assert not sound or problems(town) == []


def names(place, count=8, url=CATALOG, **options):
    return {get(place, url + "/", **options).name for _ in range(count)}


def health(town, name):
    """Of the server's endpoint, in all clusters that the helper of the frontend's node knows."""
    address = f"{town.net.pods[name].ip4}:8080"
    clusters = town.agent("node-a").api("/v1/proxy-config/upstreams")["items"]
    return {endpoint["health"] for cluster in clusters for endpoint in cluster["endpoints"] if endpoint["address"] == address}


# --- who gets the new version ---

def test_canary_by_header_and_five_percent_of_the_others(town):
    apply(town, rule(), routes(f"match: [ {{ headers: {{ x-canary: {{ exact: 'true' }} }} }} ], {TO_NEW}", shares(95, 5)))
    assert names(town.frontend, headers={"X-Canary": "true"}) == {NEW}
    seen = load(town.frontend, "10.60.0.20", requests=4000, connections=4)
    assert seen["status"] == {"200": 4000}, seen
    assert 105 <= seen["server"][NEW] <= 295, seen  # 200, and nearly seven standard deviations


def test_a_b_by_cookie_and_by_browser(town):
    apply(town, rule(), routes(f"match: [ {{ headers: {{ cookie: {{ regex: '^(.*?; *)?(group=b)(;.*)?$' }} }} }} ], {TO_NEW}",
                               f"match: [ {{ headers: {{ user-agent: {{ regex: '.*Firefox/1[0-9]{{2}}.*' }} }} }} ], {TO_NEW}", TO_OLD))
    for cookie, expected in (("group=b", NEW), ("a=1; group=b; c=2", NEW), ("group=a", OLD), ("group=bb", OLD), ("xgroup=b", OLD)):
        assert names(town.frontend, 4, headers={"Cookie": cookie}) == {expected}, cookie
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:%s) Gecko/20100101 Firefox/%s"
    for version, expected in (("128.0", NEW), ("99.0", OLD)):
        assert names(town.frontend, 4, headers={"User-Agent": agent % (version, version)}) == {expected}, version
    assert names(town.frontend, 4) == {OLD}


def test_feature_flags_by_header_with_a_default(town):
    apply(town, rule(), routes("match: [ { headers: { x-feature-search: { exact: 'on' } } } ], "
                               f"headers: {{ request: {{ set: {{ x-search: vector }} }} }}, {TO_NEW}",
                               f"match: [ {{ withoutHeaders: {{ x-feature-search: {{ }} }} }} ], {TO_OLD}",
                               f"headers: {{ request: {{ set: {{ x-search: legacy }}, remove: [ x-feature-search ] }} }}, {TO_OLD}"))
    answer = get(town.frontend, CATALOG + "/", headers={"X-Feature-Search": "on"})
    assert answer.name == NEW and answer.seen("x-search") == "vector", answer
    answer = get(town.frontend, CATALOG + "/", headers={"X-Feature-Search": "of"})
    assert answer.name == OLD and answer.seen("x-search") == "legacy" and answer.seen("x-feature-search") is None, answer
    answer = get(town.frontend, CATALOG + "/")
    assert answer.name == OLD and answer.seen("x-search") is None, answer


def test_regions_by_a_header_as_a_whole(town):
    apply(town, rule(), routes("match: [ { headers: { x-region: { regex: 'EU|UK|CH' } } } ], "
                               f"headers: {{ response: {{ set: {{ x-served-by: eu }} }} }}, {TO_NEW}", TO_OLD))
    for region, expected in (("EU", NEW), ("UK", NEW), ("CH", NEW), ("US", OLD), ("EUX", OLD), ("XCH", OLD), ("eu", OLD), ("", OLD)):
        answer = get(town.frontend, CATALOG + "/", headers={"X-Region": region})
        assert answer.name == expected and answer.header("x-served-by") == ("eu" if expected == NEW else None), (region, answer)


# --- all of them, and back ---

def test_blue_green_by_one_document_under_load(town):
    blue, green = routes(TO_OLD), routes(TO_NEW)
    apply(town, rule(), blue)
    process = web.load_begin(town.frontend, "10.60.0.20", seconds=300, connections=8)
    time.sleep(1)
    for document, expected in ((green, NEW), (blue, OLD), (green, NEW)):
        apply(town, rule(), document)
        wait_for("the switch", lambda want=expected: names(town.frontend, 1) == {want})
        assert names(town.frontend) == {expected}  # all of them, once one has been
        time.sleep(0.5)
    seen = web.load_end(process)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"}, seen
    assert set(seen["server"]) == {OLD, NEW}, seen


def test_blue_green_by_header_before_the_switch(town):
    preview = f"match: [ {{ headers: {{ x-preview: {{ exact: green }} }} }} ], {TO_NEW}"
    apply(town, rule(), routes(preview, TO_OLD))
    assert names(town.frontend, headers={"X-Preview": "green"}) == {NEW} and names(town.frontend) == {OLD}


# --- a new version that fails ---

def test_load_tests_overload_only_what_is_theirs(town):
    """A subset of its own has limits of its own: over them a load test gets 503 with the flag UO, users notice nothing."""
    limits = "{ tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } }"
    apply(town, rule("subsets: [ { name: users, labels: { version: v1 } }, { name: load, labels: { version: v2 }, "
                     f"trafficPolicy: {{ connectionPool: {limits} }} }} ]"),
          routes("match: [ { headers: { x-load-test: {} } } ], retries: { attempts: 0 }, "
                 "route: [ { destination: { host: catalog, subset: load } } ]",
                 "route: [ { destination: { host: catalog, subset: users } } ]"))
    agent = town.agent("node-a")
    before = agent.metric("istio_requests_total", response_flags="UO", response_code="503")
    process = web.load_begin(town.frontend, "10.60.0.20", seconds=300, connections=24, path="/?delay=1000",
                             header="X-Load-Test:1")
    wait_for("the overload", lambda: agent.metric("istio_requests_total", response_flags="UO", response_code="503") > before + 24)
    users = load(town.frontend, "10.60.0.20", requests=400, connections=8, path="/?delay=5")
    tests = web.load_end(process)
    assert users["status"] == {"200": 400} and users["server"] == {OLD: 400}, users
    assert tests["failed"] == 0 and set(tests["status"]) == {"200", "503"}, tests
    assert set(tests["server"]) == {NEW} and tests["status"]["503"] > tests["status"]["200"], tests
    wait_for("the overload to be counted", lambda: agent.metric(
        "istio_requests_total", response_flags="UO", response_code="503",
        destination_service="catalog.shop.svc.cluster.local") - before >= tests["status"]["503"])


OUTLIERS = "outlierDetection: { consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 15s, maxEjectionPercent: 100 }"


@contextlib.contextmanager
def failing(town, name):
    """The pod's server answers every request with 500 in this block: a bad release, then a repaired one."""
    place = town.net.pods[name]
    assert get(place, "http://127.0.0.1:8080/?broken=1").status == 500
    yield
    assert get(place, "http://127.0.0.1:8080/?broken=0").status == 200


def until_ejected(town):
    """What users were answered until the new version's endpoint was left out."""
    answers = []
    while "ejected" not in health(town, NEW):
        answers.append(get(town.frontend, CATALOG + "/"))
        assert len(answers) < 60, answers
    return answers


def test_a_failing_canary_of_a_shared_service_loses_its_users(town):
    """Both versions are endpoints of one service with outlier detection: the failing one is left out, nobody is told to wait."""
    apply(town, rule("trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN }, " + OUTLIERS + " }"),
          routes("retries: { attempts: 0 }, route: [ { destination: { host: catalog } } ]"))
    assert names(town.frontend) == {OLD, NEW}
    with failing(town, NEW):
        failed = [answer for answer in until_ejected(town) if answer.status != 200]
        assert [(answer.status, answer.name) for answer in failed] == [(500, NEW)] * 3, failed
        assert names(town.frontend, 10) == {OLD}
    wait_for("the repaired version to be back", lambda: NEW in names(town.frontend, 4))
    assert {get(town.frontend, CATALOG + "/").status for _ in range(10)} == {200}


def test_a_failing_canary_falls_back_by_priority(town):
    """With a share of its own: failoverPriority puts the canary's endpoints first, and the others behind them."""
    apply(town, rule(), service("canary", "10.60.0.25", "app: catalog"),
          rule("trafficPolicy: { loadBalancer: { localityLbSetting: { enabled: true, failoverPriority: [ 'version=v2' ] } }, "
               + OUTLIERS.replace("15s", "3600s") + " }", host="canary"),
          routes("retries: { attempts: 0 }, route: [ { destination: { host: catalog, subset: v1 }, weight: 50 }, "
                 "{ destination: { host: canary }, weight: 50 } ]"))
    assert names(town.frontend, 8, url="http://10.60.0.25") == {NEW}, "the canary first"
    seen = load(town.frontend, "10.60.0.20", requests=400, connections=2)
    assert seen["status"] == {"200": 400} and 130 <= seen["server"][NEW] <= 270, seen
    with failing(town, NEW):
        failed = [answer for answer in until_ejected(town) if answer.status != 200]
        assert [(answer.status, answer.name) for answer in failed] == [(500, NEW)] * 3, failed
        assert {(answer.status, answer.name) for answer in (get(town.frontend, CATALOG + "/") for _ in range(10))} == {(200, OLD)}
    apply(town, rule(), routes(TO_NEW))  # without outlier detection it is back at once
    assert names(town.frontend) == {NEW}


def test_a_subset_with_nobody_left_fails_at_once_and_alone(town):
    """Weights choose the cluster before its endpoints are looked at, as in Istio: with the canary's only endpoint ejected its
    share is answered 503 (UH) at once, and goes nowhere else until the document says so, as a rollout's controller would."""
    apply(town, rule(VERSIONS + ", trafficPolicy: { " + OUTLIERS.replace("15s", "3600s") + " }"),
          routes("retries: { attempts: 0 }, " + shares(50, 50)))
    with failing(town, NEW):
        until_ejected(town)
        answers = [get(town.frontend, CATALOG + "/") for _ in range(40)]
        assert {(answer.status, answer.name) for answer in answers} == {(200, OLD), (503, None)}, answers
        assert {answer.body for answer in answers if answer.status == 503} == {"no healthy upstream"}
        agent = town.agent("node-a")
        wait_for("the flag", lambda: agent.metric("istio_requests_total", response_flags="UH", response_code="503") >= 1)
        apply(town, rule(VERSIONS + ", trafficPolicy: { " + OUTLIERS.replace("15s", "3600s") + " }"), routes(TO_OLD))
        assert load(town.frontend, "10.60.0.20", requests=100)["status"] == {"200": 100}


# --- sessions and shadows ---

def test_sessions_stay_where_they_began_through_a_change(town):
    sticky = "loadBalancer: { consistentHash: { httpCookie: { name: session, ttl: 600s } } }"
    apply(town, rule(f"trafficPolicy: {{ {sticky} }}"))
    sessions = {}

    def begin():
        first = get(town.frontend, CATALOG + "/")
        assert first.header("set-cookie").startswith("session=") and "Max-Age=600" in first.header("set-cookie"), first
        cookie = first.header("set-cookie").partition(";")[0]
        assert cookie not in sessions
        sessions[cookie] = first.name
        return first.name
    for _ in range(3):
        until_seen(begin, {OLD, NEW})
    for change in (routes("headers: { response: { set: { x-changed: 'yes' } } }, route: [ { destination: { host: catalog } } ]"),
                   routes("timeout: 7s, route: [ { destination: { host: catalog } } ]")):
        apply(town, rule(f"trafficPolicy: {{ {sticky}, connectionPool: {{ tcp: {{ maxConnections: 200 }} }} }}"), change)
        for cookie, name in sessions.items():
            again = get(town.frontend, CATALOG + "/", headers={"Cookie": f"a=b; {cookie}"})
            assert again.name == name and again.header("set-cookie") is None, (cookie, name, again)


@pytest.mark.parametrize("target", [9997, 9998])
def test_users_do_not_notice_that_the_shadow_is_down(town, target):
    """9997: nobody listens. 9998: it accepts, and never answers."""
    place = town.net.pods[NEW]
    if target == 9998:
        process = place.spawn("/usr/bin/python3", "-uc", "import socket, time\ns = socket.create_server(('', 9998), backlog=512)\n"
                              "print('up')\nkept = []\nwhile True: kept.append(s.accept())", name="hanging").wait_output("up")
    mirrors = "mirrors: [ { destination: { host: shadow }, percentage: { value: 100 } } ]"
    apply(town, rule(), service("shadow", "10.60.0.26", "app: catalog, version: v2", target),
          routes(f"{TO_OLD}, {mirrors}"))
    began = time.monotonic()
    seen = load(town.frontend, "10.60.0.20", requests=300, connections=4)
    assert seen["status"] == {"200": 300} and seen["server"] == {OLD: 300}, seen
    assert time.monotonic() - began < 90  # 300 that waited for a connection would take many minutes
    body = os.path.join(town.net.directory, "body")
    with open(body, "wb") as file:
        file.truncate(3000000)  # more than is kept for a shadow that can't follow
    done = get(town.frontend, CATALOG + "/", method="POST", data="@" + body)
    assert done.status == 200 and done.json["body"] == 3000000, done
    if target == 9998:
        process.stop()


def test_a_shadow_gets_what_users_send(town):
    apply(town, rule(), service("shadow", "10.60.0.26", "app: catalog, version: v2"),
          routes(f"{TO_OLD}, mirrors: [ {{ destination: {{ host: shadow }}, percentage: {{ value: 100 }} }} ]"))
    assert get(town.frontend, CATALOG + "/?fail=1&key=shadow").name == OLD
    wait_for("the copy", lambda: get(town.net.pods[NEW], "http://127.0.0.1:8080/?fail=1&key=shadow").status == 200)


# --- many authors ---

def test_teams_own_their_routes_by_delegates(town):
    """The root stays as it is while a team of another namespace changes its own; what the root did not hand over is not theirs."""
    root = routes("match: [ { uri: { prefix: /team } } ], delegate: { name: team, namespace: team }", TO_OLD, name="root")
    target = "destination: { host: catalog.shop.svc.cluster.local, subset: %s }"

    def team(subset):
        return istio("VirtualService", "team", "{ http: [ { match: [ { uri: { prefix: /team/api } } ], route: [ { %s } ] }, "
                     "{ match: [ { uri: { prefix: /admin } } ], directResponse: { status: 299 } }, { route: [ { %s } ] } ] }"
                     % (target % subset, target % "v1"), ns="team")

    for subset, expected in (("v1", OLD), ("v2", NEW)):
        apply(town, rule(), root, team(subset))
        assert get(town.frontend, CATALOG + "/team/api/x").name == expected
        assert get(town.frontend, CATALOG + "/team/other").name == OLD and get(town.frontend, CATALOG + "/admin").name == OLD


def test_two_virtual_services_for_one_host_are_reported(town):
    apply(town, rule(), routes(TO_OLD, name="a-first"), routes(TO_NEW, name="b-second"))
    assert names(town.frontend) == {OLD}
    shown = town.agent("node-a").meshctl("analyze", check=False).stdout
    _, _, found = shown.partition("warning VirtualService/shop/b-second  21-delivery.yaml:")
    assert "is ignored" in found and "VirtualService/shop/a-first is for the same host catalog.shop.svc.cluster.local" in found, shown



@pytest.mark.parametrize("bad,words", [
    (routes(f"match: [ {{ uri: {{ regex: '/a(' }} }} ], {TO_OLD}"), ["regex", "/a("]),
    (routes(f"match: [ {{ headers: {{ x-user: {{ regex: '(?=a).*' }} }} }} ], {TO_OLD}"), ["headers.x-user.regex", "(?=a)"]),
    (routes(f"rewrite: {{ uriRegexRewrite: {{ match: '/(a)', rewrite: '\\2' }} }}, {TO_OLD}"), ["uriRegexRewrite", "1 groups"]),
    (http_route("{ matches: [ { path: { type: RegularExpression, value: '/a[' } } ], backendRefs: [ { name: catalog, port: 80 } ] }"),
     ["path.value", "/a["]),
    (routes("route: [ { destination: { subset: v1 } } ]"), ["destination.host"]),
    (routes(shares(0, 0)), ["weight"]),
    (routes(shares(-5, 105)), ["weight"]),
    (routes(f"retries: {{ attempts: 2, perTryTimeout: 2x }}, {TO_OLD}"), ["perTryTimeout", "2x"]),
    (routes(f"redirect: {{ uri: /x }}, {TO_OLD}"), ["redirect"]),
], ids=["regex", "lookahead", "group", "http-route", "host", "no-weight", "negative", "duration", "both"])
def test_a_bad_document_is_refused_by_name_and_the_former_stays(town, bad, words):
    former = http_route("{ backendRefs: [ { name: new, port: 80 } ] }") if "kind: HTTPRoute" in bad else routes(TO_NEW)
    rest = rule() + service("new", "10.60.0.28", "app: catalog, version: v2")
    apply(town, rest, former)
    assert names(town.frontend, 4) == {NEW}
    apply(town, rest, bad, sound=False)
    found = problems(town)
    assert len(found) == len(town.mesh.agents), found
    for problem in found:
        assert problem["origin"].startswith("21-delivery.yaml:") and all(word in problem["text"] for word in words), problem
        assert problem["last_good"] and not problem["warning"], problem
    assert names(town.frontend, 4) == {NEW}


def test_a_misspelt_field_is_reported_with_the_right_one(town):
    """A warning: what the rest says is in force."""
    apply(town, rule(), routes(f"timeoutt: 3s, {TO_NEW}"), sound=False)
    found = problems(town)
    assert len(found) == len(town.mesh.agents) and all(problem["warning"] for problem in found), found
    assert all("spec.http[0]" in problem["text"] and "timeoutt" in problem["text"] and 'did you mean "timeout"' in problem["text"]
               for problem in found), found
    assert names(town.frontend, 4) == {NEW}


def test_weights_are_relative(town):
    """Istio once wanted a sum of 100, and no longer does."""
    apply(town, rule(), routes(shares(3, 1)))
    seen = load(town.frontend, "10.60.0.20", requests=2000, connections=4)
    assert seen["status"] == {"200": 2000} and 370 <= seen["server"][NEW] <= 630, seen


def test_a_destination_that_is_not_there_is_reported_and_answered_503(town):
    apply(town, rule(), routes("match: [ { uri: { prefix: /new } } ], retries: { attempts: 0 }, "
                               "route: [ { destination: { host: catalogue } } ]", TO_OLD))
    shown = town.agent("node-a").meshctl("analyze", check=False).stdout
    assert "catalogue" in shown, shown
    assert get(town.frontend, CATALOG + "/new").status == 503 and get(town.frontend, CATALOG + "/").name == OLD


def test_export_to_keeps_routes_at_home(town):
    stranger = town.net.pods["stranger"]
    apply(town, rule(), routes(TO_NEW, more="exportTo: [ '.' ],"))
    assert names(town.frontend, 8) == {NEW}
    until_seen(lambda: get(stranger, CATALOG + "/").name, {OLD, NEW})
    apply(town, rule(), routes(TO_NEW, more="exportTo: [ '.', team ],"))
    assert names(stranger, 8) == {NEW}


def test_a_sidecar_hides_the_routes_of_others(town):
    stranger = town.net.pods["stranger"]
    sidecar = "{ egress: [ { hosts: [ '%s' ] } ] }"
    apply(town, rule(), routes(TO_NEW))
    assert names(stranger, 8) == {NEW}
    apply(town, rule(), routes(TO_NEW), istio("Sidecar", "default", sidecar % "./*", ns="team"))
    until_seen(lambda: get(stranger, CATALOG + "/").name, {OLD, NEW})
    assert names(town.frontend) == {NEW}
    apply(town, rule(), routes(TO_NEW), istio("Sidecar", "default", sidecar % "shop/*", ns="team"))
    assert names(stranger, 8) == {NEW}


# --- the same with the Gateway API ---

def test_http_route_weights_and_timeouts(town):
    both = service("old", "10.60.0.27", "app: catalog, version: v1") + service("new", "10.60.0.28", "app: catalog, version: v2")
    apply(town, both, http_route(
        "{ matches: [ { headers: [ { name: x-canary, value: 'true' } ] } ], backendRefs: [ { name: new, port: 80 } ] }, "
        "{ matches: [ { path: { value: /slow } } ], timeouts: { request: 300ms }, backendRefs: [ { name: old, port: 80 } ] }, "
        "{ matches: [ { path: { value: /calm } } ], timeouts: { request: 60s }, backendRefs: [ { name: old, port: 80 } ] }, "
        "{ backendRefs: [ { name: old, port: 80, weight: 9 }, { name: new, port: 80, weight: 1 } ] }"))
    assert names(town.frontend, headers={"X-Canary": "true"}) == {NEW}
    seen = load(town.frontend, "10.60.0.20", requests=3000, connections=4)
    assert seen["status"] == {"200": 3000} and 190 <= seen["server"][NEW] <= 410, seen
    began = time.monotonic()
    answer = get(town.frontend, CATALOG + "/slow?delay=60000")
    assert answer.status == 504 and 0.25 <= time.monotonic() - began < 30, answer
    assert get(town.frontend, CATALOG + "/calm?delay=500").status == 200
