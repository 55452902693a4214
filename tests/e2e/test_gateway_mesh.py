# SPDX-License-Identifier: Apache-2.0
"""The cases of the Gateway API's conformance suite for meshes, by their names there, with routes written for this town (see
lib/gateway). What the suite asks of gateways only is not here."""
import pytest

from lib import gateway, rpc, traffic
from lib.gateway import MARK, ROUTES, ask, filters, headers, path, route, to, took, vips, write
from lib.net import Net
from lib.shell import until_seen, wait_for
from lib.web import get, load


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("gateway-mesh")) as net:
        yield gateway.build(net)


@pytest.fixture
def town(made):
    yield made
    made.apply(ROUTES)


# --- services, ports, callers ---

@pytest.mark.parametrize("family", [0, 1])
def test_mesh_basic(town, family):
    assert ask(town.echo_v1, "echo", family=family).status == 200
    for name in ("echo-v1", "echo-v2"):
        for port in (80, 8080):
            assert ask(town.echo_v1, name, port=port, family=family).name == name
        target = f"{vips(name)[0]}:7070" if not family else f"[{vips(name)[1]}]:7070"
        assert rpc.call(town.echo_v1, target, "Unary")["messages"][0]["name"] == name
        assert traffic.call(town.echo_v1, vips(name)[family], 9090)["answer"]["name"] == name


def test_mesh_frontend(town):
    """A route is about its Service, not about the pods behind it."""
    write(town, route(f"{{ {MARK % 'set'}, {to('echo-v2')} }}", "name: echo-v2"))
    answer = ask(town.echo_v1, "echo-v2")
    assert answer.name == "echo-v2" and answer.header("x-header-set") == "set", answer
    pod = town.echo_v2
    for address in (pod.ip4, f"[{pod.ip6}]"):
        answer = get(town.echo_v1, f"http://{address}:8080/")
        assert answer.name == "echo-v2" and answer.header("x-header-set") is None, answer


def test_mesh_ports(town):
    write(town, route(f"{{ {MARK % 'v1'}, {to('echo-v1')} }}", "name: echo-v1, port: 80", name="one"),
          route(f"{{ {MARK % 'v2'}, {to('echo-v2')} }}", "name: echo-v2", name="two"))
    for name, port, mark in (("echo-v1", 80, "v1"), ("echo-v1", 8080, None), ("echo-v2", 80, "v2"), ("echo-v2", 8080, "v2")):
        answer = ask(town.echo_v1, name, port=port)
        assert answer.name == name and answer.header("x-header-set") == mark, (name, port, answer)
    # By the port's name, which Weft takes as well.
    write(town, route(f"{{ {MARK % 'v1'}, {to('echo-v1')} }}", "name: echo-v1, sectionName: http-alt"))
    assert ask(town.echo_v1, "echo-v1").header("x-header-set") is None
    assert ask(town.echo_v1, "echo-v1", port=8080).header("x-header-set") == "v1"


def test_mesh_traffic_split(town):
    write(town, route([f"{{ matches: [ {{ {path('/v1', 'Exact')} }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/v2', 'Exact')} }} ], {to('echo-v2')} }}"]))
    assert [took(town, target) for target in ("/v1", "/v2", "/other", "/v1/x")] == ["echo-v1", "echo-v2", 404, 404]


def test_mesh_consumer_route(town):
    """Of another namespace than the service's: for that namespace's callers alone, in place of the service's own routes."""
    consumer = route(f"{{ {MARK % 'consumer'}, backendRefs: [ {{ name: echo-v1, namespace: shop, port: 80 }} ] }}",
                     "name: echo-v1, namespace: shop", ns="consumer")
    grant = ("apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: { name: g, namespace: shop }\n"
             "spec: { from: [ { group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: consumer } ], "
             "to: [ { group: '', kind: Service } ] }\n---\n")
    write(town, consumer, grant)
    for place, mark in ((town.consumer, "consumer"), (town.echo_v2, None)):
        answer = ask(place, "echo-v1.shop")
        assert answer.name == "echo-v1" and answer.header("x-header-set") == mark, (place.name, answer)
    write(town, consumer, grant, route(f"{{ {MARK % 'producer'}, {to('echo-v1')} }}", "name: echo-v1", name="own"))
    for place, mark in ((town.consumer, "consumer"), (town.echo_v2, "producer")):
        assert ask(place, "echo-v1.shop").header("x-header-set") == mark, place.name


def test_simple_same_namespace(town):
    write(town, route(f"{{ {to('echo-v1')} }}"))
    assert {took(town, "/") for _ in range(6)} == {"echo-v1"}


# --- matches ---

def test_http_route_matching(town):
    write(town, route([f"{{ matches: [ {{ {path('/')} }}, {{ headers: [ {{ name: version, value: one }} ] }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/v2')} }}, {{ headers: [ {{ name: version, value: two }} ] }} ], {to('echo-v2')} }}"]))
    for target, version, expected in (("/", None, "v1"), ("/example", None, "v1"), ("/", "one", "v1"), ("/v2", None, "v2"),
                                      ("/v2/example", None, "v2"), ("/", "two", "v2"), ("/v2/", None, "v2"),
                                      ("/v2example", None, "v1"), ("/foo/v2/example", None, "v1")):
        wanted = {"Version": version} if version else None
        assert took(town, target, headers=wanted) == f"echo-{expected}", (target, version)


def test_query_param_matching(town):
    def query(value, name="animal"):
        return f"queryParams: [ {{ name: {name}, value: {value} }} ]"
    write(town, route([f"{{ matches: [ {{ {query('whale')} }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {query('dolphin')} }} ], {to('echo-v2')} }}",
                       f"{{ matches: [ {{ {query('whale')}, headers: [ {{ name: version, value: one }} ] }} ], {to('echo-v2')} }}",
                       f"{{ matches: [ {{ {path('/path1')}, {query('whale')} }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/path3')}, {query('shark')} }}, {{ {path('/path4')}, {query('kraken')}, "
                       f"headers: [ {{ name: version, value: three }} ] }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/path5')} }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {query('hydra')} }} ], {to('echo-v2')} }}"]))
    for target, version, expected in (
            ("/?animal=whale", None, "echo-v1"), ("/?animal=dolphin", None, "echo-v2"),
            ("/?animal=whale&otherparam=irrelevant", None, "echo-v1"), ("/?animal=dolphin&color=yellow", None, "echo-v2"),
            ("/?color=blue", None, 404), ("/?animal=dog", None, 404), ("/?animal=whaledolphin", None, 404), ("/", None, 404),
            ("/path1?animal=whale", None, "echo-v1"), ("/?animal=whale", "one", "echo-v2"),
            ("/path3?animal=shark", None, "echo-v1"), ("/path4?animal=kraken", "three", "echo-v1"),
            ("/?animal=shark", None, 404), ("/path4?animal=kraken", None, 404), ("/path5?animal=hydra", None, "echo-v1")):
        wanted = {"version": version} if version else None
        assert took(town, target, headers=wanted) == expected, (target, version)


def test_method_and_regular_expressions(town):
    write(town, route([f"{{ matches: [ {{ method: POST }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ method: PUT, {path('/p')} }} ], {to('echo-v2')} }}",
                       f"{{ matches: [ {{ {path(chr(39) + '/v[0-9]+/x.*' + chr(39), 'RegularExpression')} }} ], {to('echo-v2')} }}",
                       "{ matches: [ { headers: [ { name: color, type: RegularExpression, value: 'gre+n|blue' } ] } ], "
                       f"{to('echo-v2')} }}"]))
    assert took(town, "/", method="POST") == "echo-v1" and took(town, "/p/1", method="PUT") == "echo-v2"
    assert took(town, "/", method="PUT") == 404
    assert took(town, "/v12/xyz") == "echo-v2" and took(town, "/v12") == 404 and took(town, "/a/v1/x") == 404
    for color, expected in (("greeen", "echo-v2"), ("blue", "echo-v2"), ("bluer", 404)):
        assert took(town, "/", headers={"Color": color}) == expected, color


def test_named_rule(town):
    write(town, route([f"{{ name: named-rule, matches: [ {{ {path('/named')} }} ], {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/unnamed')} }} ], {to('echo-v2')} }}"]))
    assert took(town, "/named") == "echo-v1" and took(town, "/unnamed") == "echo-v2"
    explained = town.agent("node-a").meshctl("explain", "shop/echo-v1", f"http://{vips('echo')[0]}/named").stdout
    assert "named-rule" in explained, explained


# --- weights ---

def test_http_route_weight(town):
    write(town, route("{ backendRefs: [ { name: echo-v1, port: 80, weight: 70 }, { name: echo-v2, port: 80, weight: 30 }, "
                      "{ name: echo, port: 80, weight: 0 } ] }"))
    seen = load(town.echo_v1, vips("echo")[0], requests=3000, connections=4)
    assert seen["status"] == {"200": 3000} and abs(seen["server"]["echo-v1"] - 2100) <= 160, seen


def test_grpc_route_weight(town):
    write(town, route("{ backendRefs: [ { name: echo-v1, port: 7070, weight: 70 }, { name: echo-v2, port: 7070, weight: 30 } ] }",
                      "name: echo, port: 7070", kind="GRPCRoute"))
    seen = rpc.call(town.echo_v1, f"{vips('echo')[0]}:7070", "Unary", repeat=1600)
    assert seen["status"] == {"OK": 1600} and abs(seen["server"]["echo-v1"] - 1120) <= 115, seen


def test_all_weights_of_zero_are_a_500(town):
    write(town, route("{ backendRefs: [ { name: echo-v1, port: 80, weight: 0 }, { name: echo-v2, port: 80, weight: 0 } ] }"),
          route("{ backendRefs: [ { name: echo-v1, port: 7070, weight: 0 } ] }", "name: echo, port: 7070", kind="GRPCRoute",
                name="rpc"))
    assert took(town, "/") == 500
    assert rpc.call(town.echo_v1, f"{vips('echo')[0]}:7070", "Unary")["status"] == "UNAVAILABLE"


# --- filters ---

MULTIPLE = ("set: [ { name: X-Header-Set-1, value: header-set-1 }, { name: X-Header-Set-2, value: header-set-2 } ], "
            "add: [ { name: X-Header-Add-1, value: header-add-1 }, { name: X-Header-Add-2, value: header-add-2 }, "
            "{ name: X-Header-Add-3, value: header-add-3 } ], remove: [ X-Header-Remove-1, X-Header-Remove-2 ]")


@pytest.mark.parametrize("backend", [False, True], ids=["rule", "backend"])
def test_request_header_modifier(town, backend):
    def rule(at, words):
        done = filters(headers("Request", words))
        return f"{{ matches: [ {{ {path(at)} }} ], {to('echo-v1', more=', ' + done) if backend else done + ', ' + to('echo-v1')} }}"
    write(town, route([rule("/set", "set: [ { name: X-Header-Set, value: set-overwrites-values } ]"),
                       rule("/add", "add: [ { name: X-Header-Add, value: add-appends-values } ]"),
                       rule("/remove", "remove: [ X-Header-Remove ]"), rule("/multiple", MULTIPLE),
                       rule("/case", "set: [ { name: X-Header-Set, value: header-set } ], add: [ { name: X-Header-Add, "
                            "value: header-add } ], remove: [ X-Header-Remove ]")]))
    other = {"Some-Other-Header": "val"}
    for target, sent, seen in (
            ("/set", other, {"x-header-set": "set-overwrites-values", **other}),
            ("/set", {"X-Header-Set": "some-other-value", **other}, {"x-header-set": "set-overwrites-values", **other}),
            ("/add", other, {"x-header-add": "add-appends-values", **other}),
            ("/add", {"X-Header-Add": "some-other-value"}, {"x-header-add": "some-other-value, add-appends-values"}),
            ("/remove", {"X-Header-Remove": "val"}, {"x-header-remove": None}),
            ("/multiple", {"X-Header-Set-2": "a", "X-Header-Add-2": "add-val-2", "X-Header-Remove-2": "b", "Another": "c"},
             {"x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2", "x-header-add-1": "header-add-1",
              "x-header-add-2": "add-val-2, header-add-2", "x-header-add-3": "header-add-3", "another": "c",
              "x-header-remove-1": None, "x-header-remove-2": None}),
            ("/case", {"x-header-set": "a", "x-header-add": "b", "x-header-remove": "c"},
             {"x-header-set": "header-set", "x-header-add": "b, header-add", "x-header-remove": None})):
        answer = ask(town.echo_v1, "echo", target, headers=sent)
        assert answer.name == "echo-v1", (target, answer)
        assert {name: answer.seen(name) for name in seen} == seen, (target, answer)


@pytest.mark.parametrize("backend", [False, True], ids=["rule", "backend"])
def test_response_header_modifier(town, backend):
    done = filters(headers("Response", "set: [ { name: X-Header-Set, value: set-overwrites-values } ], "
                           "add: [ { name: X-Header-Add, value: add-appends-values } ], remove: [ X-Header-Remove ]"))
    write(town, route(f"{{ {to('echo-v1', more=', ' + done) if backend else done + ', ' + to('echo-v1')} }}"))
    answer = ask(town.echo_v1, "echo", "/?header=X-Header-Set:a&header=X-Header-Add:b&header=X-Header-Remove:c&header=Other:d")
    assert [answer.header(name) for name in ("x-header-set", "x-header-add", "x-header-remove", "other")] == [
        "set-overwrites-values", "b, add-appends-values", None, "d"], answer


def test_grpc_request_header_modifier(town):
    method = "matches: [ { method: { service: weft.test.Echo, method: Unary } } ]"
    write(town, route([f"{{ {method}, {filters(headers('Request', MULTIPLE.replace('X-Header', 'x-header')))}, "
                       f"{to('echo-v1', 7070)} }}",
                       f"{{ matches: [ {{ method: {{ service: weft.test.Other }} }} ], {to('echo-v2', 7070)} }}"],
                      "name: echo, port: 7070", kind="GRPCRoute"))
    seen = rpc.call(town.echo_v1, f"{vips('echo')[0]}:7070", "Unary",
                    metadata=["x-header-set-2:a", "x-header-remove-2:b", "x-header-add-2:c", "another:d"])
    message = seen["messages"][0]
    assert message["name"] == "echo-v1", seen
    assert [rpc.fields(message["metadata"], f"x-header-{name}") for name in ("set-1", "set-2", "add-1", "remove-2")] == [
        ["header-set-1"], ["header-set-2"], ["header-add-1"], []], message
    assert ",".join(rpc.fields(message["metadata"], "x-header-add-2")).replace(", ", ",") == "c,header-add-2", message
    assert rpc.call(town.echo_v1, f"{vips('echo')[0]}:7070", "weft.test.Other/Unary")["messages"][0]["name"] == "echo-v2"
    assert rpc.call(town.echo_v1, f"{vips('echo')[0]}:7070", "Download", {"count": 1})["status"] == "UNIMPLEMENTED"


def redirect(at, words):
    return f"{{ matches: [ {{ {path(at)} }} ], {filters('{ type: RequestRedirect, requestRedirect: { ' + words + ' } }')} }}"


def located(town, target, **options):
    answer = ask(town.echo_v1, "echo", target, **options)
    return answer.status, answer.header("location")


def test_redirect_host_and_status(town):
    write(town, route([redirect("/hostname-redirect", "hostname: example.org"),
                       redirect("/host-and-status", "hostname: example.org, statusCode: 301")]
                      + [redirect(f"/status-{status}", f"hostname: example.org, statusCode: {status}") for status in (303, 307, 308)]))
    assert located(town, "/hostname-redirect") == (302, "http://example.org/hostname-redirect")
    assert located(town, "/host-and-status") == (301, "http://example.org/host-and-status")
    for status in (303, 307, 308):
        assert located(town, f"/status-{status}?a=b") == (status, f"http://example.org/status-{status}?a=b")


def test_redirect_path(town):
    prefix, full = ("path: { type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix }",
                    "path: { type: ReplaceFullPath, replaceFullPath: /replacement-full }")
    write(town, route([redirect("/original-prefix", prefix), redirect("/full", full),
                       redirect("/path-and-host", f"hostname: example.org, {prefix}"),
                       redirect("/path-and-status", f"statusCode: 301, {prefix}"),
                       redirect("/path-and-temporary", f"statusCode: 307, {prefix}"),
                       redirect("/full-path-and-host", f"hostname: example.org, {full}"),
                       redirect("/full-path-and-permanent", f"statusCode: 308, {full}"),
                       redirect("/to-the-root", "path: { type: ReplacePrefixMatch, replacePrefixMatch: / }")]))
    for target, status, location in (
            ("/original-prefix/lemon", 302, "http://echo/replacement-prefix/lemon"),
            ("/full/path/original", 302, "http://echo/replacement-full"),
            ("/path-and-host", 302, "http://example.org/replacement-prefix"),
            ("/path-and-status", 301, "http://echo/replacement-prefix"),
            ("/path-and-temporary?a=1", 307, "http://echo/replacement-prefix?a=1"),
            ("/full-path-and-host", 302, "http://example.org/replacement-full"),
            ("/full-path-and-permanent/x", 308, "http://echo/replacement-full"),
            ("/to-the-root", 302, "http://echo/"), ("/to-the-root/a", 302, "http://echo/a")):
        assert located(town, target) == (status, location), target


def test_redirect_port_and_scheme(town):
    write(town, route([redirect("/port", "port: 8083"), redirect("/port-and-host", "hostname: example.org, port: 8083"),
                       redirect("/port-and-status", "port: 8083, statusCode: 301"), redirect("/scheme", "scheme: https"),
                       redirect("/scheme-and-host", "scheme: https, hostname: example.org"),
                       redirect("/scheme-and-host-and-status", "scheme: https, hostname: example.org, statusCode: 301"),
                       redirect("/scheme-and-port", "scheme: https, port: 443"),
                       redirect("/scheme-and-other-port", "scheme: https, port: 8443"),
                       redirect("/http", "scheme: http, port: 80"), redirect("/host", "hostname: example.org")]))
    for target, status, location in (
            ("/port", 302, "http://echo:8083/port"), ("/port-and-host", 302, "http://example.org:8083/port-and-host"),
            ("/port-and-status", 301, "http://echo:8083/port-and-status"), ("/scheme", 302, "https://echo/scheme"),
            ("/scheme-and-host", 302, "https://example.org/scheme-and-host"),
            ("/scheme-and-host-and-status", 301, "https://example.org/scheme-and-host-and-status"),
            ("/scheme-and-port", 302, "https://echo/scheme-and-port"),
            ("/scheme-and-other-port", 302, "https://echo:8443/scheme-and-other-port"), ("/http", 302, "http://echo/http")):
        assert located(town, target) == (status, location), target
    # Called at another port than the scheme's own: it stays, unless the scheme changes.
    assert located(town, "/host", port=8080) == (302, "http://example.org:8080/host")
    assert located(town, "/scheme", port=8080) == (302, "https://echo/scheme")
    assert located(town, "/port", port=8080) == (302, "http://echo:8083/port")


def rewrite(at, words, more=()):
    done = filters("{ type: URLRewrite, urlRewrite: { " + words + " } }", *more)
    return f"{{ matches: [ {{ {path(at)} }} ], {done}, {to('echo-v1')} }}"


def test_rewrite_path_and_host(town):
    change = headers("Request", "set: [ { name: X-Header-Set, value: set-overwrites-values } ], add: [ { name: X-Header-Add, "
                     "value: header-val-1 }, { name: X-Header-Add-Append, value: header-val-2 } ], remove: [ X-Header-Remove ]")

    def full(to_path):
        return f"path: {{ type: ReplaceFullPath, replaceFullPath: {to_path} }}"

    def prefix(to_path):
        return f"path: {{ type: ReplacePrefixMatch, replacePrefixMatch: {to_path} }}"
    write(town, route([rewrite("/prefix/one", prefix("/one")), rewrite("/strip-prefix", prefix("/")),
                       rewrite("/full/one", full("/one")), rewrite("/no-slash", prefix("''")),
                       rewrite("/full/rewrite-path-and-modify-headers", full("/test"), [change]),
                       rewrite("/prefix/rewrite-path-and-modify-headers", prefix("/prefix"), [change]),
                       rewrite("/host", "hostname: one.example.org"),
                       rewrite("/both", f"hostname: two.example.org, {prefix('/x')}")]))
    for target, seen in (("/prefix/one/two", "/one/two"), ("/strip-prefix/three", "/three"), ("/strip-prefix", "/"),
                         ("/strip-prefix/", "/"), ("/no-slash/a", "/a"), ("/no-slash", "/"),
                         ("/full/one/two", "/one"), ("/full/one/two?a=b", "/one?a=b")):
        assert ask(town.echo_v1, "echo", target).json["target"] == seen, target
    for target, seen in (("/full/rewrite-path-and-modify-headers/test", "/test"),
                         ("/prefix/rewrite-path-and-modify-headers/one", "/prefix/one")):
        answer = ask(town.echo_v1, "echo", target, headers={"X-Header-Remove": "a", "X-Header-Add-Append": "append-val-1",
                                                           "X-Header-Set": "b"})
        assert answer.json["target"] == seen, answer
        assert [answer.seen(f"x-header-{name}") for name in ("add", "add-append", "set", "remove")] == [
            "header-val-1", "append-val-1, header-val-2", "set-overwrites-values", None], answer
    answer = ask(town.echo_v1, "echo", "/host/a")
    assert answer.seen("host") == "one.example.org" and answer.json["target"] == "/host/a", answer
    answer = ask(town.echo_v1, "echo", "/both/a")
    assert answer.seen("host") == "two.example.org" and answer.json["target"] == "/x/a", answer


def mirrored(town, name, key):
    """Whether the pod's server has seen a request with this key: it answers those of a key with 503, so many times."""
    return get(town.net.pods[name], f"http://127.0.0.1/?fail=1&key={key}").status == 200


def mirror(name, more="", port=80):
    return f"{{ type: RequestMirror, requestMirror: {{ backendRef: {{ name: {name}, port: {port} }}{more} }} }}"


def test_request_mirror(town):
    """To several backends, with a share, and beside changes of headers."""
    write(town, route([f"{{ matches: [ {{ {path('/one')} }} ], {filters(mirror('echo-v2'))}, {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/none')} }} ], {filters(mirror('echo-v2', ', percent: 0'))}, {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/gone')} }} ], {filters(mirror('nobody'))}, {to('echo-v1')} }}"]))
    assert ask(town.echo_v1, "echo", "/none?fail=0&key=never").name == "echo-v1"
    assert ask(town.echo_v1, "echo", "/one?fail=0&key=one").name == "echo-v1"
    wait_for("the copy", lambda: mirrored(town, "echo-v2", "one"))
    assert not mirrored(town, "echo-v2", "never")
    assert ask(town.echo_v1, "echo", "/gone").name == "echo-v1"


def test_grpc_request_mirror(town):
    write(town, route(f"{{ {filters(mirror('echo-v2', port=7070))}, {to('echo-v1', 7070)} }}", "name: echo, port: 7070",
                      kind="GRPCRoute"))
    target = f"{vips('echo')[0]}:7070"
    assert rpc.call(town.echo_v1, target, "Unary", {"fail": 0, "key": "rpc"})["messages"][0]["name"] == "echo-v1"
    near = f"{town.echo_v2.ip4}:7070"
    wait_for("the copy", lambda: rpc.call(town.echo_v2, near, "Unary", {"fail": 1, "key": "rpc"})["status"] == "OK")


def preflight(town, target, origin, method="GET", wanted="x-header-1, x-header-2"):
    return ask(town.echo_v1, "echo", target, method="OPTIONS", headers={
        "Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted})


def test_cors(town):
    def cors(at, words):
        return f"{{ matches: [ {{ {path(at)} }} ], {filters('{ type: CORS, cors: { ' + words + ' } }')}, {to('echo-v1')} }}"
    write(town, route([
        cors("/one", "allowOrigins: [ 'https://www.foo.com', 'https://*.bar.com' ], allowMethods: [ GET, OPTIONS ], allowHeaders: "
             "[ x-header-1, x-header-2 ], exposeHeaders: [ x-header-3, x-header-4 ], allowCredentials: true, maxAge: 3600"),
        cors("/two", "allowOrigins: [ 'https://www.foo.com' ], allowMethods: [ '*' ]"),
        cors("/three", "allowOrigins: [ '*' ], allowMethods: [ '*' ], allowHeaders: [ '*' ], exposeHeaders: [ '*' ]"),
        cors("/four", "allowOrigins: [ '*' ], allowMethods: [ '*' ], allowHeaders: [ '*' ], allowCredentials: true")]))

    def allowed(answer, name):
        return answer.header(f"access-control-allow-{name}")
    for origin in ("https://www.foo.com", "https://a.bar.com", "https://a.b.bar.com"):
        answer = preflight(town, "/one", origin)
        assert answer.status in (200, 204) and answer.name is None and allowed(answer, "origin") == origin, answer
        assert allowed(answer, "methods").replace(" ", "") == "GET,OPTIONS" and allowed(answer, "credentials") == "true", answer
        assert allowed(answer, "headers").replace(" ", "") == "x-header-1,x-header-2", answer
        assert answer.header("access-control-max-age") == "3600", answer
        answer = ask(town.echo_v1, "echo", "/one", headers={"Origin": origin})
        assert answer.name == "echo-v1" and allowed(answer, "origin") == origin, answer
        assert answer.header("access-control-expose-headers").replace(" ", "") == "x-header-3,x-header-4", answer
    for origin in ("https://bar.com", "https://abar.com", "http://www.foo.com", "https://foobar.com"):
        assert allowed(preflight(town, "/one", origin), "origin") is None, origin
    # A star means all of them; with credentials the browser must be told the very one.
    answer = preflight(town, "/two", "https://www.foo.com", "PUT")
    assert allowed(answer, "methods") in ("*", "PUT") and allowed(answer, "credentials") is None, answer
    answer = preflight(town, "/three", "https://any.example", "DELETE", "x-a")
    assert allowed(answer, "origin") in ("*", "https://any.example") and allowed(answer, "headers") in ("*", "x-a"), answer
    answer = preflight(town, "/four", "https://any.example", "DELETE", "x-a")
    assert (allowed(answer, "origin"), allowed(answer, "credentials")) == ("https://any.example", "true"), answer
    assert (allowed(answer, "methods"), allowed(answer, "headers")) == ("DELETE", "x-a"), answer


def test_direct_response(town):
    """Experimental, and with filters that Weft does not know beside it: those answer 500 and are warned of."""
    def direct(at, words):
        return f"{{ matches: [ {{ {path(at, 'Exact')} }} ], {filters('{ type: DirectResponse, directResponse: { ' + words + ' } }')} }}"
    write(town, route([direct("/body", "statusCode: 200, body: { string: 'hello, gateway' }"), direct("/none", "statusCode: 204"),
                       direct("/forbidden", "statusCode: 403, body: { string: Forbidden }")]))
    for target, status, body in (("/body", 200, "hello, gateway"), ("/none", 204, ""), ("/forbidden", 403, "Forbidden"),
                                 ("/body/x", 404, "")):
        answer = ask(town.echo_v1, "echo", target)
        assert (answer.status, answer.body, answer.name) == (status, body, None), (target, answer)
    town.mesh.write(ROUTES, route([f"{{ {filters('{ type: %s }' % kind)}, matches: [ {{ {path('/' + kind)} }} ], {to('echo-v1')} }}"
                                   for kind in ("ExtensionRef", "ExternalAuth")]))
    town.mesh.settle()
    found = town.agent("node-a").api("/v1/status")["config"]["problems"]
    assert all(problem["warning"] for problem in found) and len(found) == 2, found
    for kind, problem in zip(("ExtensionRef", "ExternalAuth"), sorted(found, key=lambda one: one["text"])):
        assert f"{kind} is not supported" in problem["text"] and took(town, f"/{kind}") == 500, found


# --- timeouts and retries ---

def test_timeouts(town):
    write(town, route([f"{{ matches: [ {{ {path('/request')} }} ], timeouts: {{ request: 2500ms }}, {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/backend')} }} ], timeouts: {{ request: 60s, backendRequest: 2500ms }}, {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/none')} }} ], timeouts: {{ request: 0s }}, {to('echo-v1')} }}"]))
    for at in ("/request", "/backend"):
        wait_for("an answer in time", lambda at=at: took(town, f"{at}?delay=0") == "echo-v1")
        assert took(town, f"{at}?delay=60000") == 504, at
    assert took(town, "/none?delay=1000") == "echo-v1"


def test_retries(town):
    write(town, route([f"{{ matches: [ {{ {path('/twice')} }} ], retry: {{ attempts: 2, codes: [ 503 ], backoff: 10ms }}, {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/never')} }} ], retry: {{ attempts: 0, codes: [ 503 ] }}, {to('echo-v1')} }}",
                       f"{{ matches: [ {{ {path('/other')} }} ], retry: {{ attempts: 2, codes: [ 500 ] }}, {to('echo-v1')} }}"]))
    assert took(town, "/twice?fail=2&key=twice") == "echo-v1"
    assert took(town, "/twice?fail=9&key=often") == 503
    assert took(town, "/never?fail=1&key=never-again") == 503
    assert took(town, "/other?fail=1&key=other") == 503


# --- what a route's status would say ---

def conditions(town):
    """What `meshctl analyze` says of each document: {"route": "ResolvedRefs=False (BackendNotFound)"}."""
    shown = town.agent("node-a").meshctl("analyze", check=False).stdout.splitlines()
    return {head.split()[1].split("/")[2]: text.strip().partition("): ")[0] + ")"
            for head, text in zip(shown, shown[1:]) if "Route/" in head and "=False (" in text}


def test_backends_that_are_none_get_500_and_say_why(town):
    """HTTPRouteInvalidNonExistentBackendRef, InvalidBackendRefUnknownKind, InvalidCrossNamespaceBackendRef, ReferenceGrant."""
    bad = {"nobody": "{ name: nobody, port: 80 }", "no-port": "{ name: echo-v1, port: 81 }",
           "kind": "{ group: unknownkind.example.com, kind: NonExistent, name: echo-v1, port: 80 }"}
    write(town, *[route(f"{{ matches: [ {{ {path('/' + name)} }} ], backendRefs: [ {backend} ] }}", name=name)
                  for name, backend in bad.items()])
    assert [took(town, f"/{name}") for name in bad] == [500, 500, 500]
    assert conditions(town) == {"nobody": "ResolvedRefs=False (BackendNotFound)",
                                "no-port": "ResolvedRefs=False (BackendNotFound)", "kind": "ResolvedRefs=False (InvalidKind)"}

    def grant(ns="consumer", kind="HTTPRoute", to_words="group: '', kind: Service"):
        return ("apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: { name: g, namespace: shop }\n"
                f"spec: {{ from: [ {{ group: gateway.networking.k8s.io, kind: {kind}, namespace: {ns} }} ], to: [ {{ {to_words} }} ] }}\n---\n")
    cross = route("{ backendRefs: [ { name: echo-v2, namespace: shop, port: 80 } ] }", "name: echo-v1, namespace: shop",
                  ns="consumer", name="cross")
    for text, allowed in (("", False), (grant(ns="other"), False), (grant(kind="GRPCRoute"), False),
                          (grant(to_words="group: '', kind: Secret"), False),
                          (grant(to_words="group: '', kind: Service, name: echo-v1"), False), (grant(), True),
                          (grant(to_words="group: '', kind: Service, name: echo-v2"), True), ("", False)):
        write(town, cross, text)
        answer = ask(town.consumer, "echo-v1.shop")
        assert (answer.status, answer.name) == ((200, "echo-v2") if allowed else (500, None)), (text, answer)
        assert conditions(town) == ({} if allowed else {"cross": "ResolvedRefs=False (RefNotPermitted)"}), text
        assert ask(town.echo_v1, "echo-v1").name == "echo-v1"


def test_share_of_an_invalid_backend(town):
    write(town, route("{ backendRefs: [ { name: echo-v1, port: 80, weight: 3 }, { name: nobody, port: 80, weight: 1 } ] }"),
          route("{ backendRefs: [ { name: echo-v1, port: 9090, weight: 1 }, { name: nobody, port: 9090, weight: 1 } ] }",
                "name: echo, port: 9090", kind="TCPRoute", name="bytes").replace("io/v1\n", "io/v1alpha2\n"))
    seen = load(town.echo_v1, vips("echo")[0], requests=1200, connections=4)
    assert set(seen["status"]) == {"200", "500"} and abs(seen["status"]["500"] - 300) <= 105, seen  # seven standard deviations
    until_seen(lambda: traffic.call(town.echo_v1, vips("echo")[0], 9090)["ok"], {True, False})


def test_parents_that_do_not_fit_say_so(town):
    write(town, route(f"{{ {MARK % 'a'}, {to('echo-v1')} }}", "name: nobody", name="no-service"),
          route(f"{{ {MARK % 'b'}, {to('echo-v1')} }}", "name: echo-v1, port: 81", name="no-port"),
          route(f"{{ {MARK % 'c'}, {to('echo-v1')} }}", "name: echo-v1, sectionName: nothing", name="no-section"))
    assert ask(town.echo_v1, "echo-v1").header("x-header-set") is None
    assert conditions(town) == {name: "Accepted=False (NoMatchingParent)" for name in ("no-service", "no-port", "no-section")}
