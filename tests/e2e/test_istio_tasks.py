# SPDX-License-Identifier: Apache-2.0
"""istio.io's tasks of traffic management, with their configuration as their readers write it, on services that answer as
those of Bookinfo, httpbin, tcp-echo and helloworld would:

    node-a: productpage, reviews-1 (v1, region1/zone1), ratings     node-b: reviews-2 (v2, region1/zone2), reviews-3 (v3,
                                                                            region2/zone3), details

productpage is in region1/zone1 and has the end users, so it is who calls. httpbin, tcp-echo and helloworld are the pods of
reviews by other ports."""
import json
import time

import pytest

from lib import traffic, web
from lib.mesh import namespace, service, workload
from lib.net import Net
from lib.shell import until_seen, wait_for
from lib.town import Town
from lib.web import get, load

VIPS = {"productpage": 1, "reviews": 2, "ratings": 3, "details": 4, "httpbin": 5, "tcp-echo": 6, "helloworld": 7}
TASK = "21-task.yaml"
JASON = {"end-user": "jason"}


def vip(name):
    return f"10.60.2.{VIPS[name]}"


def url(name, target="/"):
    port = {"httpbin": 8000, "helloworld": 5000}.get(name, 9080)
    return f"http://{vip(name)}:{port}{target}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("istio-tasks")) as net:
        net.node("node-a")
        net.node("node-b")
        pods = {"productpage": ("node-a", "v1", "region1/zone1"), "reviews-1": ("node-a", "v1", "region1/zone1"),
                "ratings": ("node-a", "v1", "region1/zone1"), "reviews-2": ("node-b", "v2", "region1/zone2"),
                "reviews-3": ("node-b", "v3", "region2/zone3"), "details": ("node-b", "v1", "region2/zone3")}
        text = namespace("default") + "apiVersion: v1\nkind: Namespace\nmetadata: { name: istio-system }\n---\n"
        for i, (name, (node, version, locality)) in enumerate(pods.items()):
            pod = net.pod(name, node, 11 + i)
            web.serve(pod, 9080)
            text += workload(pod, "default", name.partition("-")[0], version=version, extra=f", locality: {locality}")
            if name in ("reviews-1", "reviews-2"):
                traffic.serve(pod, 9000)
        for name in ("productpage", "reviews", "ratings", "details"):
            text += service(name, "default", [("http", 9080, 9080, "TCP")], [vip(name), f"fd60::2:{VIPS[name]}"])
        text += service("httpbin", "default", [("http", 8000, 9080, "TCP")], [vip("httpbin")], app="reviews")
        text += service("tcp-echo", "default", [("tcp", 9000, 9000, "TCP")], [vip("tcp-echo")], app="reviews")
        text += service("helloworld", "default", [("http", 5000, 9080, "TCP")], [vip("helloworld")], app="reviews")
        town = Town(net)
        town.mesh.write("10-mesh.yaml", "trustDomain: cluster.local\n")
        town.mesh.write("00-workloads.yaml", text)
        town.mesh.start()
        yield town


@pytest.fixture
def town(made):
    yield made
    made.apply(TASK)


def write(town, *documents):
    town.apply(TASK, *documents)


def istio(kind, name, spec):
    return (f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: default\n"
            f"spec:\n  {spec}\n---\n")


def routes(host, *rules):
    listed = "".join(f"\n  - {rule}" for rule in rules)
    return istio("VirtualService", host, f"hosts: [ {host} ]\n  http:{listed}")


def to(host, subset, weight=None):
    share = f", weight: {weight}" if weight is not None else ""
    return f"{{ destination: {{ host: {host}, subset: {subset} }}{share} }}"


def all_to(host, subset):
    return routes(host, f"route: [ {to(host, subset)} ]")


def subsets(host, *names, more=""):
    listed = ", ".join(f"{{ name: {name}, labels: {{ version: {name} }} }}" for name in names)
    return istio("DestinationRule", host, f"host: {host}\n{more}  subsets: [ {listed} ]")


RULES = (subsets("productpage", "v1") + subsets("reviews", "v1", "v2", "v3")
         + subsets("ratings", "v1", "v2", "v2-mysql", "v2-mysql-vm") + subsets("details", "v1", "v2"))
ALL_V1 = "".join(all_to(host, "v1") for host in ("productpage", "reviews", "ratings", "details"))
JASON_MATCH = "match: [ { headers: { end-user: { exact: jason } } } ]"


def names(town, host="reviews", count=8, **options):
    return {get(town.productpage, url(host), **options).name for _ in range(count)}


# --- request routing, traffic shifting ---

def test_request_routing_by_version_then_by_user(town):
    write(town, RULES)
    until_seen(lambda: get(town.productpage, url("reviews")).name, {"reviews-1", "reviews-2", "reviews-3"})
    write(town, RULES, ALL_V1)
    assert names(town) == {"reviews-1"} and names(town, headers=JASON) == {"reviews-1"}
    assert names(town, "ratings") == {"ratings"} and names(town, "details") == {"details"}
    by_user = routes("reviews", f"{JASON_MATCH}\n    route: [ {to('reviews', 'v2')} ]", f"route: [ {to('reviews', 'v1')} ]")
    write(town, RULES, ALL_V1.replace(all_to("reviews", "v1"), by_user))
    assert names(town) == {"reviews-1"} and names(town, headers=JASON) == {"reviews-2"}
    assert names(town, headers={"end-user": "jasonx"}) == {"reviews-1"}
    # Everybody but him to v3, as the sample of two versions has it.
    write(town, RULES, routes("reviews", f"{JASON_MATCH}\n    route: [ {to('reviews', 'v2')} ]", f"route: [ {to('reviews', 'v3')} ]"))
    assert names(town) == {"reviews-3"} and names(town, headers=JASON) == {"reviews-2"}


@pytest.mark.parametrize("shares", [(("v1", 50), ("v3", 50)), (("v1", 80), ("v2", 20)), (("v1", 90), ("v2", 10)),
                                    (("v2", 50), ("v3", 50)), (("v3", 100),)],
                         ids=["50-v3", "80-20", "90-10", "v2-v3", "v3"])
def test_traffic_shifting(town, shares):
    weights = ", ".join(to("reviews", version, weight) for version, weight in shares)
    write(town, RULES, routes("reviews", f"route: [ {weights} ]"))
    seen = load(town.productpage, vip("reviews"), 9080, requests=1000, connections=4)
    assert seen["status"] == {"200": 1000}, seen
    for version, weight in shares:
        assert abs(seen["server"].get(f"reviews-{version[1]}", 0) - 10 * weight) <= 105, seen  # nearly seven standard deviations
    assert set(seen["server"]) == {f"reviews-{version[1]}" for version, _ in shares}


def test_tcp_traffic_shifting(town):
    def echo(spec):
        return istio("VirtualService", "tcp-echo", "hosts: [ tcp-echo ]\n  tcp:\n  - match: [ { port: 9000 } ]\n"
                     f"    route: [ {spec} ]") + subsets("tcp-echo", "v1", "v2")

    def share(count):
        loop = f"for i in $(seq {count}); do exec 3<>/dev/tcp/{vip('tcp-echo')}/9000; read -r -u 3 line; echo \"$line\"; exec 3>&-; done"
        said = [json.loads(line)["name"] for line in town.productpage.run("bash", "-c", loop).stdout.splitlines()]
        assert len(said) == count
        return {name: said.count(name) for name in set(said)}
    write(town, echo(to("tcp-echo", "v1")))
    assert share(10) == {"reviews-1": 10}
    write(town, echo(f"{to('tcp-echo', 'v1', 80)}, {to('tcp-echo', 'v2', 20)}"))
    seen = share(200)
    assert set(seen) == {"reviews-1", "reviews-2"} and 10 <= seen["reviews-2"] <= 80, seen  # 40, of a deviation of 6


# --- fault injection, timeouts ---

def faulty(host, fault, match=JASON_MATCH + "\n    "):
    return routes(host, f"{match}fault: {fault}\n    route: [ {to(host, 'v1')} ]", f"route: [ {to(host, 'v1')} ]")


def test_a_delay_of_seven_seconds_for_one_user(town):
    write(town, RULES, faulty("ratings", "{ delay: { percentage: { value: 100.0 }, fixedDelay: 7s } }"))
    began = time.monotonic()
    assert get(town.productpage, url("ratings")).name == "ratings"
    assert time.monotonic() - began < 6
    began = time.monotonic()
    assert get(town.productpage, url("ratings"), headers=JASON).name == "ratings"
    assert time.monotonic() - began >= 7


def test_aborts(town):
    write(town, RULES, faulty("ratings", "{ abort: { percentage: { value: 100.0 }, httpStatus: 500 } }"),
          faulty("details", "{ abort: { httpStatus: 555, percentage: { value: 100.0 } } }", match=""))
    answer = get(town.productpage, url("ratings"), headers=JASON)
    assert (answer.status, answer.body, answer.name) == (500, "fault filter abort", None), answer
    assert get(town.productpage, url("ratings")).name == "ratings"
    assert get(town.productpage, url("details")).status == 555
    # Without a percentage nothing is injected, as in Istio, and `meshctl analyze` says so.
    write(town, RULES, faulty("ratings", "{ abort: { httpStatus: 500 }, delay: { fixedDelay: 30s } }"))
    assert get(town.productpage, url("ratings"), headers=JASON).name == "ratings"
    shown = town.agent("node-a").meshctl("analyze", check=False).stdout
    assert "fault.abort has no percentage" in shown and "fault.delay has no percentage" in shown, shown


def test_request_timeouts(town):
    """reviews is held up for two seconds and may take half a second."""
    held = "fault: { delay: { percent: 100, fixedDelay: 2s } }\n    "
    write(town, RULES, routes("ratings", f"{held}route: [ {to('ratings', 'v1')} ]"),
          routes("reviews", f"route: [ {to('reviews', 'v2')} ]\n    timeout: 0.5s"))
    began = time.monotonic()
    assert get(town.productpage, url("ratings")).name == "ratings"
    assert time.monotonic() - began >= 2
    answer = get(town.productpage, url("reviews", "/?delay=6000"))
    assert (answer.status, answer.body) == (504, "upstream request timeout"), answer
    wait_for("an answer in time", lambda: names(town, count=1) == {"reviews-2"})


# --- circuit breaking ---

BREAKER = ("trafficPolicy:\n    connectionPool:\n      tcp: { maxConnections: 1 }\n      http: { http1MaxPendingRequests: 1, "
           "maxRequestsPerConnection: 1 }\n    outlierDetection: { consecutive5xxErrors: 1, interval: 1s, "
           "baseEjectionTime: 3m, maxEjectionPercent: 100 }")


def test_circuit_breaking(town):
    """One connection for each thread of the helper, and one that waits: of many clients some get 503, and nobody is ejected
    for it."""
    write(town, istio("DestinationRule", "httpbin", f"host: httpbin\n  {BREAKER}"))
    agent = town.agent("node-a")
    before = agent.metric("istio_requests_total", response_flags="UO", response_code="503")
    ejected = agent.metric("weft_helper_outlier_ejected_endpoints")
    seen = load(town.productpage, vip("httpbin"), 8000, requests=20, connections=2, path="/?delay=20")
    assert seen["status"]["200"] >= 10 and seen["failed"] == 0, seen
    refused = seen["status"].get("503", 0)
    seen = load(town.productpage, vip("httpbin"), 8000, requests=128, connections=16, path="/?delay=500")
    assert seen["failed"] == 0 and set(seen["status"]) == {"200", "503"}, seen
    refused += seen["status"]["503"]
    wait_for("the overflow to be counted",
             lambda: agent.metric("istio_requests_total", response_flags="UO", response_code="503") - before == refused)
    assert agent.metric("weft_helper_outlier_ejected_endpoints") == ejected
    # One request a connection: its server numbers them.
    answers = [get(town.productpage, url("httpbin")) for _ in range(9)]
    assert {answer.status for answer in answers} == {200}, answers
    assert len({(answer.name, answer.json["connection"]) for answer in answers}) == 9, answers
    # An answer of 5xx ejects at once.
    bad = get(town.productpage, url("httpbin", "/?status=500"))
    assert bad.status == 500
    wait_for("the ejection", lambda: agent.metric("weft_helper_outlier_ejected_endpoints") == ejected + 1)
    assert bad.name not in names(town, "httpbin", 12)


# --- mirroring ---

def shadowed(town, key):
    """The request with this key, as httpbin's second version was sent it: its server keeps what it saw."""
    seen = get(town.net.pods["reviews-2"], f"http://127.0.0.1:9080/?recall={key}").json.get("recalled")
    return dict((name.lower(), value) for name, value in seen["headers"]) if seen else None


def test_mirroring(town):
    rules = subsets("httpbin", "v1", "v2")
    write(town, rules, routes("httpbin", f"route: [ {to('httpbin', 'v1', 100)} ]"))
    assert get(town.productpage, url("httpbin", "/?keep=before")).name == "reviews-1"
    for key, share in (("new", "mirrorPercentage: { value: 100.0 }"), ("old", "mirrorPercent: 100"), ("none", "timeout: 10s")):
        write(town, rules, routes("httpbin", f"route: [ {to('httpbin', 'v1', 100)} ]\n    mirror: {{ host: httpbin, subset: v2 }}\n"
                                  f"    {share}"))
        answer = get(town.productpage, url("httpbin", f"/?keep={key}"), host="httpbin:8000")
        assert answer.name == "reviews-1" and answer.seen("host") == "httpbin:8000", answer
        copy = wait_for("the copy", lambda key=key: shadowed(town, key))
        assert copy["host"] == "httpbin-shadow:8000", copy
    assert shadowed(town, "before") is None
    write(town, rules, routes("httpbin", f"route: [ {to('httpbin', 'v1', 100)} ]\n    mirror: {{ host: httpbin, subset: v2 }}\n"
                              "    mirrorPercent: 0"))
    for i in range(5):
        get(town.productpage, url("httpbin", f"/?keep=zero-{i}"))
    assert [shadowed(town, f"zero-{i}") for i in range(5)] == [None] * 5


# --- locality ---

LOCAL = "host: helloworld.default.svc.cluster.local\n  trafficPolicy:\n    {more}loadBalancer:\n      simple: ROUND_ROBIN\n" \
        "      localityLbSetting: {{ enabled: true, {setting} }}\n    outlierDetection: {{ consecutive5xxErrors: {errors}, " \
        "interval: 1s, baseEjectionTime: 1m, maxEjectionPercent: 100 }}"


def test_locality_failover(town):
    """The task has pods drained, which leave the service; here their servers die, so as many may be ejected as there are."""
    pool = "connectionPool: { http: { maxRequestsPerConnection: 1 } }\n    "
    write(town, istio("DestinationRule", "helloworld", LOCAL.format(
        more=pool, setting="failover: [ { from: region1, to: region2 } ]", errors=1)))
    lost = []
    try:
        for name, after in (("reviews-1", "reviews-2"), ("reviews-2", "reviews-3")):
            assert names(town, "helloworld", 12) == {name}
            place = town.net.pods[name]
            place.run("sh", "-c", "kill -9 $(ss -ltnpH 'sport = :9080' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u)")
            lost.append(place)
            wait_for(f"{after} to answer", lambda want=after: names(town, "helloworld", 6) == {want})
    finally:
        for place in lost:
            web.serve(place, 9080)


def test_locality_distribute(town):
    write(town, istio("DestinationRule", "helloworld", LOCAL.format(
        more="", errors=100, setting="distribute: [ { from: region1/zone1/*, to: { 'region1/zone1/*': 70, 'region1/zone2/*': 20, "
        "'region2/zone3/*': 10 } } ]")))
    seen = load(town.productpage, vip("helloworld"), 5000, requests=2000, connections=4)
    assert seen["status"] == {"200": 2000}, seen
    for name, share in (("reviews-1", 70), ("reviews-2", 20), ("reviews-3", 10)):
        assert abs(seen["server"].get(name, 0) - 20 * share) <= 140, seen


# --- what else the samples hold ---

def test_versions_that_nobody_runs_are_a_503(town):
    """Ratings of MySQL, on pods or virtual machines, before they are there."""
    for version in ("v2", "v2-mysql", "v2-mysql-vm"):
        write(town, RULES, all_to("reviews", "v3"), all_to("ratings", version))
        assert names(town, count=3) == {"reviews-3"}
        answer = get(town.productpage, url("ratings"))
        assert (answer.status, answer.body) == (503, "no healthy upstream"), answer


def test_rules_that_ask_for_mutual_tls(town):
    more = "  trafficPolicy:\n    tls:\n      mode: ISTIO_MUTUAL\n"
    write(town, "".join(subsets(host, "v1", more=more) for host in ("productpage", "reviews", "ratings", "details")), ALL_V1)
    assert names(town) == {"reviews-1"} and names(town, "details", 3) == {"details"}


def test_documents_for_gateways_change_nothing_inside(town):
    gateway = istio("Gateway", "bookinfo-gateway", "selector:\n    istio: ingressgateway\n  servers:\n  - port:\n      number: 8080\n"
                    "      name: http\n      protocol: HTTP\n    hosts: [ '*' ]")
    bookinfo = istio("VirtualService", "bookinfo", "hosts: [ '*' ]\n  gateways: [ bookinfo-gateway ]\n  http:\n  - match:\n    - uri: "
                     "{ exact: /productpage }\n    - uri: { prefix: /static }\n    route:\n    - destination: { host: productpage, "
                     "port: { number: 9080 } }")
    external = istio("ServiceEntry", "googleapis", "hosts: [ www.googleapis.com ]\n  ports: [ { number: 443, name: https, protocol: "
                     "http } ]\n  location: MESH_EXTERNAL\n  resolution: DNS")
    write(town, gateway, bookinfo, external)
    assert get(town.productpage, url("reviews", "/productpage")).name in ("reviews-1", "reviews-2", "reviews-3")
    shown = town.agent("node-a").meshctl("analyze", check=False).stdout
    assert "VirtualService/default/bookinfo" in shown and "is for gateways only" in shown, shown
