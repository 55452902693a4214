# SPDX-License-Identifier: Apache-2.0
"""Clients and servers as people run them: nginx behind the mesh, fortio and ghz in front of it, on the caller's node and
on the other one."""
import hashlib
import json
import os
import subprocess

import pytest

from lib import web
from lib.gotool import go_tool
from lib.mesh import service
from lib.net import Net
from lib.shell import wait_for
from lib.traffic import PYTHON
from lib.web import get

NGINX, NGINX2, GRPC = 8090, 8092, 8079
NEAR, FAR = "10.60.0.91", "10.60.0.92"
MORE = (service("near", "shop", [("http", 80, NGINX, "TCP"), ("http2", 82, NGINX2, "TCP"), ("grpc", 84, GRPC, "TCP")],
                [NEAR, "fd60::91"], app="catalog, version: v1")
        + service("far", "shop", [("http", 80, NGINX, "TCP"), ("http2", 82, NGINX2, "TCP"), ("grpc", 84, GRPC, "TCP")],
                  [FAR, "fd60::92"], app="payments"))
PLACES = [NEAR, FAR, "[fd60::91]", "[fd60::92]"]
BIG = 5 << 20
# keepalive_requests: nginx closes each connection in the middle of a load, as it does by default after 1,000
CONFIG = """daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1000; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 25;
  client_max_body_size 1m;
  gzip on; gzip_types text/plain; gzip_min_length 100;
  server {{
    listen {http}; listen [::]:{http};
    listen {http2} http2; listen [::]:{http2} http2;
    root {dir}/www;
    location /whoami {{ return 200 "$server_protocol $http_host $remote_addr\\n"; }}
    location /to {{ return 302 /small.txt; }}
    location /put {{ proxy_pass http://127.0.0.1:{http}/taken; }}
    location /taken {{ return 200 "taken\\n"; }}
  }}
}}
"""


def nginx(net, name):
    directory = os.path.join(net.directory, f"nginx-{name}")
    os.makedirs(os.path.join(directory, "www"))
    os.chmod(net.directory, 0o755)
    with open(os.path.join(directory, "www/small.txt"), "w", encoding="ascii") as file:
        file.write("weft\n" * 100)
    with open(os.path.join(directory, "www/big.bin"), "wb") as file:
        file.write(os.urandom(BIG))
    config = os.path.join(directory, "nginx.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(CONFIG.format(dir=directory, http=NGINX, http2=NGINX2))
    # as root, because workers of another user can't read pytest's directories
    process = net.pods[name].spawn("/usr/sbin/nginx", "-c", config, "-p", directory, "-g", "user root;", name=f"nginx-{name}")
    wait_for(f"nginx of {name}", lambda: get(net.pods[name], f"http://127.0.0.1:{NGINX}/small.txt").status == 200)
    return process


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("clients")) as net:
        made = web.build(net, more=MORE)
        made.nginx = {name: nginx(net, name) for name in ("catalog-1", "payments")}
        made.large = os.path.join(net.directory, "nginx-payments/www/big.bin")
        made.digests = {}
        for place, name in zip(PLACES, ("catalog-1", "payments") * 2):
            with open(os.path.join(net.directory, f"nginx-{name}/www/big.bin"), "rb") as file:
                made.digests[place] = hashlib.sha256(file.read()).hexdigest()
        for place in PLACES:
            wait_for(f"an answer of {place}", lambda p=place: get(made.frontend, f"http://{p}/whoami").status == 200)
        yield made


@pytest.fixture(scope="module")
def fortio():
    return go_tool("fortio")


@pytest.fixture(scope="module")
def ghz():
    return go_tool("ghz")


@pytest.fixture(scope="module")
def ping(fortio, town):
    """fortio's gRPC server beside nginx."""
    for name in ("catalog-1", "payments"):
        pod = town.net.pods[name]
        process = pod.spawn(fortio, "server", "-http-port", "disabled", "-redirect-port",
                            "disabled", "-tcp-port", "disabled", "-udp-port", "disabled", "-grpc-port", GRPC, name=f"fortio-{name}")
        wait_for(f"fortio of {name}", lambda p=pod: f":{GRPC}" in p.run("ss", "-Hltn").stdout and process.alive())


def run_fortio(town, fortio, *words):
    done = town.frontend.run(fortio, "load", "-quiet", "-json", "-", *words)
    return json.loads(done.stdout)


# --- nginx ---

@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("words", [(), ("--http2-prior-knowledge",)])
def test_nginx_is_what_it_is_without_a_mesh(town, place, words):
    url = f"http://{place}"
    assert get(town.frontend, url + "/small.txt", *words).body == "weft\n" * 100
    head = get(town.frontend, url + "/small.txt", *words, method="HEAD")
    assert head.status == 200 and head.header("content-length") == "500" and head.body == ""
    part = get(town.frontend, url + "/small.txt", *words, headers={"Range": "bytes=5-9"})
    assert (part.status, part.body, part.header("content-range")) == (206, "weft\n", "bytes 5-9/500")
    again = get(town.frontend, url + "/small.txt", *words, headers={"If-None-Match": head.header("etag")})
    assert again.status == 304 and again.body == ""
    packed = get(town.frontend, url + "/small.txt", "--compressed", *words)
    assert packed.body == "weft\n" * 100 and packed.header("content-encoding") == "gzip"
    moved = get(town.frontend, url + "/to", *words)
    assert moved.status == 302 and moved.header("location").endswith("/small.txt")
    assert get(town.frontend, url + "/nothing", *words).status == 404
    assert get(town.frontend, url + "/put", *words, data="x" * 100000).body == "taken\n"
    if not words:  # curl 7.88 takes the end of a stream that came before its body's for a failure, without a mesh too
        assert get(town.frontend, url + "/put", "-X", "POST", "-T", town.large).status == 413
    who = get(town.frontend, url + "/whoami", *words, host="shop.example").body.split()
    assert who[:2] == ["HTTP/1.1", "shop.example"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("port", [80, 82])
def test_a_large_file_of_nginx_is_whole(town, place, port):
    command = f"curl -sf --max-time 170 http://{place}:{port}/big.bin | sha256sum"
    assert town.frontend.run("bash", "-c", command).stdout.split()[0] == town.digests[place]


# Asks for the large file on some connections, and reads the answers when it is told to.
UNREAD = """
import socket, sys
held = []
for i in range(int(sys.argv[3])):
    s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.settimeout(120)
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.sendall(b'GET /big.bin HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')
    held.append(s)
print(sum(s.recv(12, socket.MSG_PEEK) == b'HTTP/1.1 200' for s in held), flush=True)
sys.stdin.readline()
for s in held:
    size = 0
    while more := s.recv(1 << 20):
        size += len(more)
    print(size, flush=True)
"""


@pytest.mark.parametrize("place", PLACES)
def test_unread_answers_leave_their_http_2_connection_to_others(town, place):
    """All share the helper's connection to nginx."""
    words = town.frontend.command(PYTHON, "-c", UNREAD, place.strip("[]"), 82, 12)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as unread:
        assert unread.stdout.readline() == "12\n"
        for _ in range(12):
            assert get(town.frontend, f"http://{place}:82/small.txt").status == 200
        sizes = unread.communicate("\n", timeout=180)[0].split()
    assert len(sizes) == 12 and all(int(size) > BIG for size in sizes), sizes


@pytest.mark.parametrize("place", [NEAR, FAR])
def test_a_reloaded_nginx_fails_no_request(town, place):
    """It closes connections that lie idle in the mesh's pools; whoever's request meets that must not notice."""
    process = web.load_begin(town.frontend, place, seconds=600, connections=8, path="/whoami")
    name = "catalog-1" if place == NEAR else "payments"
    for _ in range(3):
        before = town.net.pods[name].run("pgrep", "-P", town.nginx[name].pid).stdout
        town.nginx[name].signal(1)
        wait_for("nginx's new worker", lambda b=before: town.net.pods[name].run(
            "pgrep", "-P", town.nginx[name].pid, check=False).stdout not in ("", b))
    seen = web.load_end(process)
    assert seen["failed"] == 0 and set(seen["status"]) == {"200"} and seen["status"]["200"] > 100, seen


# --- fortio ---

@pytest.mark.parametrize("place", PLACES)
def test_fortio_over_http_1_keeps_its_connections(town, fortio, place):
    seen = run_fortio(town, fortio, "-qps", "0", "-n", 2000, "-c", 8, "-stdclient=false", f"http://{place}/small.txt")
    assert seen["RetCodes"] == {"200": 2000} and seen["DurationHistogram"]["Count"] == 2000
    # nginx closes after 25 requests, the mesh does not
    assert seen["SocketCount"] == 8, seen["SocketCount"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("port", [80, 82])
def test_fortio_over_http_2(town, fortio, place, port):
    seen = run_fortio(town, fortio, "-h2", "-stdclient", "-qps", "0", "-n", 1000, "-c", 4,
                      f"http://{place}:{port}/small.txt")
    assert seen["RetCodes"] == {"200": 1000}


def test_fortio_sends_bodies_and_asks_to_continue(town, fortio):
    for place in (NEAR, FAR):
        seen = run_fortio(town, fortio, "-qps", "0", "-n", 200, "-c", 4, "-payload-size", 20000, "-H",
                          "Expect: 100-continue", "-stdclient", f"http://{place}/put")
        assert seen["RetCodes"] == {"200": 200}


@pytest.mark.parametrize("place", PLACES)
def test_fortio_over_grpc(town, fortio, ping, place):
    seen = run_fortio(town, fortio, "-grpc", "-ping", "-qps", "0", "-n", 1000, "-c", 4, "-s", 4, "-payload-size", 512,
                      f"{place}:84")
    assert seen["RetCodes"] == {"SERVING": 1000} or seen["RetCodes"] == {"OK": 1000}, seen["RetCodes"]
    seen = run_fortio(town, fortio, "-grpc", "-qps", "0", "-n", 500, "-c", 2, f"{place}:84")
    assert seen["RetCodes"] == {"SERVING": 500}, seen["RetCodes"]


def test_fortio_counts_the_faults_of_its_route(town, fortio):
    """A fault on half of the requests is what its client counts, within what chance allows (nearly seven sigma)."""
    town.mesh.write("21-test.yaml", """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: far, namespace: shop }
spec:
  hosts: [ far ]
  http: [ { fault: { abort: { httpStatus: 418, percentage: { value: 50 } } }, route: [ { destination: { host: far } } ] } ]
""")
    town.mesh.settle()
    try:
        seen = run_fortio(town, fortio, "-qps", "0", "-n", 2000, "-c", 4, f"http://{FAR}/small.txt")["RetCodes"]
    finally:
        town.mesh.remove("21-test.yaml")
        town.mesh.settle()
    assert seen["200"] + seen["418"] == 2000 and abs(seen["418"] - 1000) < 150, seen


# --- ghz ---

@pytest.mark.parametrize("place", PLACES)
def test_ghz_finds_the_service_and_calls_it(town, ghz, ping, place):
    """Its reflection is a stream in both directions; the calls share connections."""
    done = town.frontend.run(ghz, "--insecure", "--call", "fgrpc.PingServer.Ping", "-d", '{"payload":"d2VmdA=="}', "-n", 1000,
                             "-c", 20, "--connections", 4, "--format", "json", f"{place}:84")
    seen = json.loads(done.stdout)
    assert seen["statusCodeDistribution"] == {"OK": 1000} and seen["count"] == 1000, seen["errorDistribution"]
