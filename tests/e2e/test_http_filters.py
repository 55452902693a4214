# SPDX-License-Identifier: Apache-2.0
"""EnvoyFilters as people have them: a header that is required, limits of this node, and limits that a service counts."""
import os
import time

import pytest
import yaml

from lib import judge, web
from lib.jwt import Issuer
from lib.kept import raw
from lib.mesh import service, workload
from lib.net import Net
from lib.shell import ROOT, until_seen, wait_for
from lib.web import get, load

CATALOG, PAYMENTS = "http://10.60.0.20", "http://10.60.0.30"
MESH = "trustDomain: cluster.local\nweft: { helper: { threads: 2 } }\n"
# ShouldRateLimit: tokens by the value of the entry "user".
LIMITER = """
import threading, time
left, lock = {b"ann": 3}, threading.Lock()
def judge(body):
    assert field(1, b"shop-domain") in body, body
    if field(2, b"slow") in body: time.sleep(6)
    if field(2, b"broken") in body: return b"\\xff"
    with lock:
        for name in left:
            if field(1, b"user") + field(2, name) in body:
                left[name] -= 1
                if left[name] < 0: return b"\\x08\\x02" + field(3, field(1, b"x-limit") + field(2, b"by-service"))
    return b"\\x08\\x01" + field(4, field(1, b"x-counted") + field(2, b"yes"))
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("filters")) as net:
        made = web.build(net, MESH, service("limits", "shop", [("grpc", 9001, 9001, "TCP")], ["10.60.0.61", "fd60::61"],
                                            app="catalog"))
        judge.start(made.catalog_1, LIMITER)
        judge.start(made.catalog_2, LIMITER.replace('{b"ann": 3}', "{}"))
        yield made


@pytest.fixture(autouse=True)
def no_filters(town):
    yield
    for name in os.listdir(town.mesh.config):
        if name.startswith("40-"):
            town.mesh.remove(name)
    town.mesh.settle()


def put(town, name, text):
    town.mesh.write(f"40-{name}.yaml", text)
    town.mesh.settle()
    for agent in town.mesh.agents.values():
        assert agent.api("/v1/status")["config"]["problems"] == []


def limit(name, app, config, context="SIDECAR_INBOUND"):
    on = "{ default_value: { numerator: 100, denominator: HUNDRED } }"
    return (f"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{ name: {name}, namespace: shop }}\n"
            f"spec:\n  workloadSelector: {{ labels: {{ app: {app} }} }}\n  configPatches:\n"
            f"  - applyTo: HTTP_FILTER\n    match: {{ context: {context} }}\n    patch:\n      operation: INSERT_BEFORE\n"
            f"      value:\n        name: envoy.filters.http.local_ratelimit\n        typed_config:\n"
            f"          '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit\n"
            f"          stat_prefix: x\n          filter_enabled: {on}\n          filter_enforced: {on}\n{config}")


def bucket(tokens, interval="600s", indent=10):
    return (f"{' ' * indent}token_bucket: {{ max_tokens: {tokens}, tokens_per_fill: {tokens}, fill_interval: {interval} }}\n")


def shop_filter(name):
    with open(os.path.join(ROOT, "tests/data/shop/40-filters-telemetry.yaml"), encoding="utf-8") as file:
        return next(d for d in yaml.safe_load_all(file) if d["metadata"]["name"] == name)


def lua(name, app, code, context="SIDECAR_INBOUND"):
    document = shop_filter("tenant-required")
    document["metadata"]["name"] = name
    document["spec"]["workloadSelector"]["labels"]["app"] = app
    patch = document["spec"]["configPatches"][0]
    patch["match"]["context"] = context
    patch["patch"]["value"]["typed_config"]["inlineCode"] = code
    return yaml.safe_dump(document)


# --- Lua ---

@pytest.mark.parametrize("url,app,servers", [(PAYMENTS, "payments", {"payments"}),
                                             (CATALOG, "catalog", {"catalog-1", "catalog-2"})])
def test_a_required_header_on_the_same_node_and_on_another(town, url, app, servers):
    document = shop_filter("tenant-required")
    document["spec"]["workloadSelector"]["labels"]["app"] = app
    put(town, "tenant", yaml.safe_dump(document))

    def ask():
        answer = get(town.frontend, url)
        assert answer.status == 403 and answer.body == "tenant required", answer
        answer = get(town.frontend, url, headers={"X-Tenant": "blue"})
        assert answer.status == 200, answer
        return answer.name
    until_seen(ask, servers)


def test_scripts_see_and_change_requests_and_responses(town):
    put(town, "lua", lua("change", "payments", """
function envoy_on_request(handle)
  local body = handle:body()
  handle:headers():add("x-length", body and body:length() or "none")
  handle:headers():replace("x-first", body and body:getBytes(0, 5) or "")
  handle:headers():remove("user-agent")
end
function envoy_on_response(handle)
  handle:headers():add("x-lua", handle:headers():get(":status"))
end
"""))
    answer = get(town.frontend, PAYMENTS, method="POST", data="hello world")
    assert answer.status == 200 and answer.json["body"] == 11, answer
    assert answer.seen("x-length") == "11" and answer.seen("x-first") == "hello" and answer.seen("user-agent") is None
    assert answer.header("x-lua") == "200"
    answer = get(town.frontend, PAYMENTS)
    assert answer.seen("x-length") == "none"
    assert get(town.frontend, PAYMENTS, method="POST", data="x" * 100000).status == 413


def test_a_script_on_the_calling_side_can_choose_the_route(town):
    town.mesh.write("40-routes.yaml", (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: catalog, namespace: shop }\n"
        "spec:\n  hosts: [ catalog ]\n  http:\n"
        "  - { match: [ { headers: { x-way: { exact: stop } } } ], directResponse: { status: 418 } }\n"
        "  - route: [ { destination: { host: catalog } } ]\n"))
    put(town, "out", lua("out", "frontend", "function envoy_on_request(h) if h:headers():get('x-ask') then "
                         "h:headers():add('x-way', 'stop') end end", "SIDECAR_OUTBOUND"))
    assert get(town.frontend, CATALOG, headers={"X-Ask": "1"}).status == 418
    assert get(town.frontend, CATALOG).status == 200


def test_hostile_scripts_refuse_and_the_helper_lives(town):
    pids = {name: agent.api("/v1/status")["helper"]["pid"] for name, agent in town.mesh.agents.items()}
    for code in ("while true do end", "local s = 'x' while true do s = s .. s end", "pcall(string.rep, 'x', 1e9)",
                 "while true do pcall(function() while true do end end) end"):
        put(town, "bomb", lua("bomb", "payments", f"function envoy_on_request(h) {code} end"))
        assert get(town.frontend, PAYMENTS).status == 500, code
        assert get(town.frontend, CATALOG).status == 200
    put(town, "bomb", lua("bomb", "payments", "this is no Lua"))
    assert get(town.frontend, PAYMENTS).status == 500
    put(town, "bomb", lua("bomb", "payments", "function envoy_on_request(h) error('mine') end"))
    assert get(town.frontend, PAYMENTS).status == 200  # as with Envoy
    after = {name: agent.api("/v1/status")["helper"]["pid"] for name, agent in town.mesh.agents.items()}
    assert pids == after


def test_response_bodies_are_seen_and_replaced(town):
    put(town, "body", lua("body", "payments", """
function envoy_on_response(handle)
  local body = handle:body()
  local text = body:getBytes(0, body:length())
  body:setBytes("<" .. text:gsub('"name"', '"was"') .. ">")
  handle:headers():add("x-length", body:length())
end
"""))
    for size in (1, 30000):
        answer = get(town.frontend, f"{PAYMENTS}/?size={size}")
        assert answer.status == 200 and answer.body[0] == "<" and answer.body[-1] == ">", answer
        assert answer.header("x-length") == answer.header("content-length") == str(len(answer.body))
    # More than a script may see; as with Envoy.
    assert get(town.frontend, PAYMENTS + "/?size=100000").status == 500
    assert get(town.frontend, PAYMENTS, method="HEAD").status == 200


def test_scripts_ask_others_and_wait(town):
    put(town, "ask", lua("ask", "payments", """
function envoy_on_request(handle)
  local headers, body = handle:httpCall("outbound|80||catalog.shop.svc.cluster.local",
    {[":method"] = "POST", [":path"] = "/check?status=" .. handle:headers():get("x-want"), [":authority"] = "catalog",
     ["x-who"] = "script"}, "ask", 60000)
  if headers[":status"] ~= "200" then
    handle:respond({[":status"] = "403", ["x-was"] = headers[":status"]}, "denied")
  end
  handle:headers():add("x-checked", headers["x-server"])
  handle:headers():add("x-asked", tostring(body:find('"x%-who", "script"') ~= nil))
end
function envoy_on_response(handle)
  local headers = handle:httpCall("outbound|80||nobody.shop.svc.cluster.local",
    {[":method"] = "GET", [":path"] = "/", [":authority"] = "nobody"}, nil, 60000)
  handle:headers():add("x-nobody", headers[":status"])
end
"""))

    def ask():
        answer = get(town.frontend, PAYMENTS, headers={"X-Want": "200"}, method="POST", data="hello")
        assert answer.status == 200 and answer.json["body"] == 5 and answer.seen("x-asked") == "true", answer
        assert answer.header("x-nobody") == "503"
        return answer.seen("x-checked")
    until_seen(ask, {"catalog-1", "catalog-2"})
    answer = get(town.frontend, PAYMENTS, headers={"X-Want": "401"})
    assert answer.status == 403 and answer.body == "denied" and answer.header("x-was") == "401", answer


def test_a_scripts_answer_is_any_bytes(town):
    put(town, "bytes", lua("bytes", "payments", "function envoy_on_request(h) h:respond({[':status'] = '200'}, "
                           "'a\\0b\\255') end"))
    answer = raw(town.frontend, "10.60.0.30", 80, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.statuses == [200] and answer.data.endswith("\r\n\r\na\0b\xff"), answer


def test_globals_of_scripts_live_on(town):
    put(town, "count", lua("count", "payments", "count = 0\nfunction envoy_on_request(h) count = count + 1 end\n"
                           "function envoy_on_response(h) h:headers():add('x-count', count) end"))
    counts = sorted(int(get(town.frontend, PAYMENTS).header("x-count")) for _ in range(20))
    # Two workers, each with its own.
    assert counts[-1] >= 10 and all(counts.count(n) <= 2 for n in counts), counts


def test_scripts_before_and_after_tokens(town):
    issuer = Issuer("https://login.example")
    town.mesh.write("40-jwt.yaml", (
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: jwt, namespace: shop }\n"
        "spec:\n  selector: { matchLabels: { app: payments } }\n"
        f"  jwtRules: [ {{ issuer: {issuer.name}, jwks: '{issuer.jwks()}' }} ]\n"
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: jwt, namespace: shop }\n"
        "spec:\n  selector: { matchLabels: { app: payments } }\n"
        "  rules: [ { from: [ { source: { requestPrincipals: [ '*' ] } } ] } ]\n"))
    first = yaml.safe_load(lua("first", "payments", "function envoy_on_request(h) local t = h:headers():get('x-ticket') "
                               "if t then h:headers():add('authorization', 'Bearer ' .. t) end end"))
    after = yaml.safe_load(lua("after", "payments", """
function envoy_on_request(h)
  local meta = h:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  h:headers():add("x-team", meta.payload.teams[2] .. meta["https://login.example"].sub)
end
"""))
    chain = after["spec"]["configPatches"][0]["match"]["listener"]["filterChain"]["filter"]
    chain["subFilter"] = {"name": "envoy.filters.http.router"}
    put(town, "scripts", yaml.safe_dump(first) + "---\n" + yaml.safe_dump(after))
    assert get(town.frontend, PAYMENTS).status == 403
    answer = get(town.frontend, PAYMENTS, headers={"X-Ticket": issuer.token(teams=["a", "b"])})
    assert answer.status == 200 and answer.seen("x-team") == "bann", answer
    assert get(town.frontend, PAYMENTS, headers={"X-Ticket": "no.token.this"}).status == 401


def test_routes_choose_what_is_run(town):
    town.mesh.write("40-routes.yaml", (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: catalog, namespace: shop }\n"
        "spec:\n  hosts: [ catalog ]\n  http:\n"
        "  - { name: quiet, match: [ { uri: { prefix: /quiet } } ], route: [ { destination: { host: catalog } } ] }\n"
        "  - { name: own, match: [ { uri: { prefix: /own } } ], route: [ { destination: { host: catalog } } ] }\n"
        "  - { name: rest, route: [ { destination: { host: catalog } } ] }\n"))
    document = yaml.safe_load(lua("out", "frontend", "function envoy_on_request(h) h:headers():add('x-lua', "
                                  "'all' .. tostring(h:metadata():get('tier'))) end", "SIDECAR_OUTBOUND"))

    def route(name, value):
        where = {"vhost": {"name": "catalog.shop.svc.cluster.local:80", "route": {"name": name}}}
        document["spec"]["configPatches"].append({"applyTo": "HTTP_ROUTE", "match": {
            "context": "SIDECAR_OUTBOUND", "routeConfiguration": where}, "patch": {"operation": "MERGE", "value": value}})

    kind = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute"
    route("quiet", {"typed_per_filter_config": {"envoy.filters.http.lua": {"@type": kind, "disabled": True}}})
    route("own", {"typed_per_filter_config": {"envoy.filters.http.lua": {"@type": kind, "source_code": {
        "inline_string": "function envoy_on_request(h) h:headers():add('x-lua', h:filterContext().word) end"},
        "filter_context": {"word": "mine"}}}})
    route("rest", {"metadata": {"filter_metadata": {"envoy.filters.http.lua": {"tier": "gold"}}}})
    put(town, "out", yaml.safe_dump(document))
    assert get(town.frontend, CATALOG).seen("x-lua") == "allgold"
    assert get(town.frontend, CATALOG + "/quiet").seen("x-lua") is None
    assert get(town.frontend, CATALOG + "/own").seen("x-lua") == "mine"


# --- limits ---

def test_a_burst_of_six_with_five_tokens(town):
    put(town, "limit", limit("five", "payments", bucket(5) +
                             "          response_headers_to_add: [ { append: false, header: { key: x-local-rate-limit, value: 'true' } } ]\n"
                             "          enable_x_ratelimit_headers: DRAFT_VERSION_03\n"))
    for left in (4, 3, 2, 1, 0):
        answer = get(town.frontend, PAYMENTS)
        assert answer.status == 200 and answer.header("x-ratelimit-remaining") == str(left), answer
    answer = get(town.frontend, PAYMENTS)
    assert answer.status == 429 and answer.body == "local_rate_limited", answer
    assert answer.header("x-local-rate-limit") == "true" and answer.header("x-envoy-ratelimited") == "true"
    drops = town.mesh.agents["node-b"].metrics()
    assert any("rate_limited" in key and value >= 1 for key, value in drops.items()), sorted(drops)


@pytest.mark.parametrize("app,address", [("payments", "10.60.0.30"), ("payments", "fd60::30")])
def test_exactly_as_many_pass_as_there_are_tokens(town, app, address):
    put(town, "limit", limit("fifty-" + ("six" if ":" in address else "four"), app, bucket(50)))
    seen = load(town.frontend, address, requests=200, connections=8)
    assert seen["failed"] == 0 and seen["status"] == {"200": 50, "429": 150}, seen


def test_buckets_fill_and_outlive_changes_elsewhere(town):
    put(town, "limit", limit("fills", "payments", bucket(3, "10s")))
    began = time.monotonic()
    assert load(town.frontend, "10.60.0.30", requests=10, connections=2)["status"] == {"200": 3, "429": 7}
    put(town, "other", lua("other", "payments", "function envoy_on_request(h) end"))
    if time.monotonic() - began < 6:
        assert get(town.frontend, PAYMENTS).status == 429
    wait_for("the bucket to fill", lambda: get(town.frontend, PAYMENTS).status == 200)
    assert time.monotonic() - began > 2


def test_descriptors_by_header(town):
    put(town, "limit", limit("users", "payments", bucket(1000) + "          descriptors:\n"
                             "          - entries: [ { key: user, value: ann } ]\n" + bucket(2, indent=12) +
                             "          rate_limits: [ { actions: [ { request_headers: { header_name: x-user, descriptor_key: user } } ] } ]\n"))
    statuses = [get(town.frontend, PAYMENTS, headers={"X-User": "ann"}).status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert get(town.frontend, PAYMENTS, headers={"X-User": "bob"}).status == 200


def test_a_limit_on_the_calling_side(town):
    put(town, "limit", limit("calls", "frontend", bucket(2), "SIDECAR_OUTBOUND"))
    assert [get(town.frontend, CATALOG).status for _ in range(3)] == [200, 200, 429]


def test_an_annotation_is_a_limit(town):
    def annotated(value):
        text = workload(town.net.pods["payments"], "shop", "payments")
        town.mesh.write("00-workloads.yaml", config.replace(text, text.replace(
            "annotations: {", f'annotations: {{ weft.dev/local-rate-limit: "{value}",', 1)))
        town.mesh.settle()

    with open(os.path.join(town.mesh.config, "00-workloads.yaml"), encoding="utf-8") as file:
        config = file.read()
    try:
        annotated("4/600s")
        assert [get(town.frontend, PAYMENTS).status for _ in range(6)] == [200] * 4 + [429] * 2
        annotated("lots")
        assert get(town.frontend, PAYMENTS).status == 429
        assert "is not a limit as in" in town.mesh.agents["node-b"].meshctl("analyze", check=False).stdout
    finally:
        town.mesh.write("00-workloads.yaml", config)
        town.mesh.settle()
    assert get(town.frontend, PAYMENTS).status == 200


def patch(apply_to, match, value, context="SIDECAR_INBOUND"):
    operation = "INSERT_BEFORE" if apply_to == "HTTP_FILTER" else "MERGE"
    return {"applyTo": apply_to, "match": {"context": context, **match}, "patch": {"operation": operation, "value": value}}


def envoy_filter(name, app, *patches, ns="istio-system"):
    return yaml.safe_dump({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
                           "metadata": {"name": name, "namespace": ns},
                           "spec": {"workloadSelector": {"labels": app}, "configPatches": list(patches)}}) + "---\n"


def test_limits_in_the_forms_of_istios_task(town):
    """In the root namespace, by TypedStruct, for all or for a port's routes; by path; and for a gateway, which there is not."""
    manager = {"listener": {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}}
    kind = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"

    def typed(value):
        return {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": kind,
                "value": {"stat_prefix": "http_local_rate_limiter", **value}}

    def tokens(n):
        share = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        return {"token_bucket": {"max_tokens": n, "tokens_per_fill": n, "fill_interval": "600s"},
                "filter_enabled": {"runtime_key": "on", **share}, "filter_enforced": {"runtime_key": "for real", **share},
                "response_headers_to_add": [{"append": False, "header": {"key": "x-local-rate-limit", "value": "true"}}]}

    def filter_of(value):
        return patch("HTTP_FILTER", manager, {"name": "envoy.filters.http.local_ratelimit", "typed_config": typed(value)})

    def statuses(n, path="/"):
        answers = [get(town.frontend, PAYMENTS + path) for _ in range(n)]
        assert all((a.header("x-local-rate-limit") == "true") == (a.status == 429) for a in answers), answers
        return [a.status for a in answers]

    payments = {"app": "payments"}
    put(town, "task", envoy_filter("for-all", payments, filter_of(tokens(4))))
    assert statuses(5) == [200] * 4 + [429]
    routes = {"routeConfiguration": {"vhost": {"name": "inbound|http|8080", "route": {"action": "ANY"}}}}
    per_route = patch("HTTP_ROUTE", routes, {"typed_per_filter_config": {"envoy.filters.http.local_ratelimit": typed(tokens(3))}})
    put(town, "task", envoy_filter("for-routes", payments, filter_of({}), per_route))
    assert statuses(4) == [200] * 3 + [429]

    products = {"name": ":path", "safe_regex_match": {"google_re2": {}, "regex": "/products/[1-9]{1,2}"}}
    by_path = patch("HTTP_FILTER", manager, {"name": "envoy.filters.http.local_ratelimit", "typed_config": typed({
        **tokens(1000), "descriptors": [{"entries": [{"key": "PATH", "value": "api"}], "token_bucket": tokens(2)["token_bucket"]}],
        "rate_limits": [{"actions": [{"header_value_match": {"descriptor_key": "PATH", "descriptor_value": "api",
                                                              "headers": [products]}}]}]})})
    put(town, "task", envoy_filter("by-path", payments, by_path))
    assert statuses(3, "/products/7") == [200, 200, 429] and statuses(3, "/products/777") == [200] * 3

    service = {"rate_limit_service": {"grpc_service": {"envoy_grpc": {"cluster_name": "outbound|8081||limits.shop.svc.cluster.local"}}}}
    edge = patch("HTTP_FILTER", {"listener": {"filterChain": {"filter": {
        **manager["listener"]["filterChain"]["filter"], "subFilter": {"name": "envoy.filters.http.router"}}}}}, {
            "name": "envoy.filters.http.ratelimit", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit", "domain": "ratelimit",
                "failure_mode_deny": True, **service}}, "GATEWAY")
    rules = patch("VIRTUAL_HOST", {"routeConfiguration": {"vhost": {"name": "", "route": {"action": "ANY"}}}}, {
        "rate_limits": [{"actions": [{"request_headers": {"header_name": ":path", "descriptor_key": "PATH"}}]}]}, "GATEWAY")
    put(town, "task", envoy_filter("edge", payments, edge) + envoy_filter("edge-rules", {"istio": "ingressgateway"}, rules))
    assert get(town.frontend, PAYMENTS).status == 200
    found = town.mesh.agents["node-b"].meshctl("analyze", check=False).stdout
    assert found.count("is for gateways (match.context GATEWAY)") == 2 and "selects no workload of any namespace" in found, found


def test_explain_says_which_filters_a_request_meets(town):
    put(town, "limit", limit("explained", "payments", bucket(5)))
    put(town, "lua", lua("script", "payments", "function envoy_on_request(h) end"))
    put(town, "out", lua("caller", "frontend", "function envoy_on_request(h) end", "SIDECAR_OUTBOUND"))
    # Each node knows what its own pods do.
    shown = {name: agent.meshctl("explain", "shop/frontend", "http://payments.shop/").stdout
             for name, agent in town.mesh.agents.items()}
    assert "Filters      script EnvoyFilter/shop/caller" in shown["node-a"] and "/shop/explained" not in shown["node-a"], shown
    here = [shown["node-b"].index(text) for text in ("Destination  shop/payments", "EnvoyFilter/shop/script",
                                                     "local limit EnvoyFilter/shop/explained[0] (",
                                                     "5 at once, 5 more each 600 s")]
    assert here == sorted(here), shown


# --- what is not supported ---

def test_an_unsupported_patch_is_refused_by_name_and_the_former_version_stays(town):
    good = lua("keep", "payments", "function envoy_on_request(h) h:respond({[':status']='451'}) end")
    put(town, "keep", good)
    assert get(town.frontend, PAYMENTS).status == 451
    bad = yaml.safe_load(good)
    bad["spec"]["configPatches"].append({"applyTo": "CLUSTER", "match": {"context": "SIDECAR_OUTBOUND"},
                                         "patch": {"operation": "MERGE", "value": {"connect_timeout": "1s"}}})
    bad["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["inlineCode"] = "function envoy_on_request(h) end"
    town.mesh.write("40-keep.yaml", yaml.safe_dump(bad))
    agent = town.mesh.agents["node-b"]
    problem = wait_for("the rejection", lambda: [p for p in agent.api("/v1/status")["config"]["problems"] if "keep" in p["key"]])[0]
    assert problem["last_good"] and "CLUSTER" in problem["text"] and "not supported" in problem["text"], problem
    shown = agent.meshctl("status", check=False).stdout
    assert "EnvoyFilter" in shown and "CLUSTER" in shown, shown
    assert get(town.frontend, PAYMENTS).status == 451


# --- a service ---

def test_a_rate_limit_service(town):
    def config(deny):
        return (f"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{ name: global, namespace: shop }}\n"
                f"spec:\n  workloadSelector: {{ labels: {{ app: payments }} }}\n  configPatches:\n"
                f"  - applyTo: HTTP_FILTER\n    match: {{ context: SIDECAR_INBOUND }}\n    patch:\n      operation: INSERT_BEFORE\n"
                f"      value:\n        name: envoy.filters.http.ratelimit\n        typed_config:\n"
                f"          '@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit\n"
                f"          domain: shop-domain\n          failure_mode_deny: {deny}\n          timeout: 2s\n"
                f"          rate_limit_service: {{ grpc_service: {{ envoy_grpc: {{ cluster_name: 'outbound|9001|v1|limits.shop.svc.cluster.local' }} }} }}\n"
                f"  - applyTo: VIRTUAL_HOST\n    match: {{ context: SIDECAR_INBOUND, routeConfiguration: {{ vhost: {{ name: 'inbound|http|8080' }} }} }}\n"
                f"    patch:\n      operation: MERGE\n      value:\n"
                f"        rate_limits: [ {{ actions: [ {{ request_headers: {{ header_name: x-user, descriptor_key: user }} }} ] }} ]\n")

    town.mesh.write("40-subsets.yaml", "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: limits, namespace: shop }\n"
                    "spec: { host: limits, subsets: [ { name: v1, labels: { version: v1 } } ] }\n")
    put(town, "global", config("true"))
    answers = [get(town.frontend, PAYMENTS, headers={"X-User": "ann"}) for _ in range(5)]
    assert [a.status for a in answers] == [200, 200, 200, 429, 429], answers
    assert answers[0].seen("x-counted") == "yes"
    assert answers[4].header("x-limit") == "by-service" and answers[4].header("x-envoy-ratelimited") == "true"
    assert get(town.frontend, PAYMENTS, headers={"X-User": "bob"}).status == 200
    assert get(town.frontend, PAYMENTS).status == 200  # no descriptor, nobody is asked
    for user in ("slow", "broken"):
        assert get(town.frontend, PAYMENTS, headers={"X-User": user}).status == 500
    put(town, "global", config("false"))
    for user in ("slow", "broken"):
        assert get(town.frontend, PAYMENTS, headers={"X-User": user}).status == 200
