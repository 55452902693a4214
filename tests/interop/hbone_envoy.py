#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HBONE between Weft and Envoy, both ways round, over loopback: messages, half-close, 16 MiB there and back.

    client -> hbone_peer (Weft) -> Envoy -> echo at 127.0.0.4:7
    client -> Envoy -> hbone_peer (Weft) -> echo at 127.0.0.2
"""
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
sys.path.insert(0, os.path.join(ROOT, "bench"))
from lib import envoyconf  # noqa: E402

FRONTEND = "spiffe://cluster.local/ns/shop/sa/frontend"
BACKEND = "spiffe://cluster.local/ns/shop/sa/backend"
BULK = 16 << 20


def free_port(address):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def echo(listener):
    def serve(s):
        with s:
            while data := s.recv(65536):
                s.sendall(data)

    while True:
        s, _ = listener.accept()
        threading.Thread(target=serve, args=(s,), daemon=True).start()


def envoy_config(directory, hbone_port, plain_port, weft):
    """One Envoy with both listeners."""
    tls = envoyconf.tls_context(f"{directory}/root.pem", (f"{directory}/peer.pem", f"{directory}/peer.key"), BACKEND)
    inbound = envoyconf.inbound(f"{directory}/admin.sock", tls)
    outbound = envoyconf.outbound(f"{directory}/admin.sock", tls)
    listener = outbound["static_resources"]["listeners"][0]
    del listener["listener_filters"]
    tunnel = listener["filter_chains"][0]["filters"][0]["typed_config"]
    tunnel["tunneling_config"] = {"hostname": f"127.0.0.2:{weft['echo']}"}
    cluster = outbound["static_resources"]["clusters"][0]
    for key in ("original_dst_lb_config", "lb_policy"):
        cluster.pop(key, None)
    address = {"socket_address": {"address": "127.0.0.2", "port_value": weft["tunnel"]}}
    cluster.update(type="STATIC", load_assignment={"cluster_name": "hbone", "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": address}}]}]})
    inbound["static_resources"]["listeners"].append(listener)
    inbound["static_resources"]["clusters"].append(cluster)
    for one, (host, port) in zip(inbound["static_resources"]["listeners"],
                                 (("127.0.0.4", hbone_port), ("127.0.0.4", plain_port))):
        one["address"] = {"socket_address": {"address": host, "port_value": port}}
    return inbound


def connect(address, port, seconds=10):
    end = time.monotonic() + seconds
    while True:
        try:
            s = socket.create_connection((address, port), timeout=10)
            return s
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def receive(s, count):
    data = bytearray()
    while len(data) < count:
        piece = s.recv(min(count - len(data), 1 << 20))
        assert piece, f"the connection ended after {len(data)} of {count} bytes"
        data += piece
    return bytes(data)


def converse(name, address, port):
    with connect(address, port) as s:
        s.sendall(b"question")
        assert receive(s, 8) == b"question"
        data = os.urandom(BULK)
        sender = threading.Thread(target=s.sendall, args=(data,))
        sender.start()
        back = receive(s, BULK)
        sender.join()
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest(), "bytes were changed"
        s.sendall(b"last")
        s.shutdown(socket.SHUT_WR)
        assert receive(s, 4) == b"last"
        assert s.recv(1) == b"", "the end of the stream did not come back"
    many = [connect(address, port) for _ in range(150)]  # more than one HTTP/2 connection holds
    for i, s in enumerate(many):
        s.sendall(b"%03d" % i)
    for i, s in enumerate(many):
        assert receive(s, 3) == b"%03d" % i
        s.close()
    print(f"ok   {name}")


def main():
    from lib import envoy
    binary = envoy.find()
    peer_binary = os.path.join(os.environ.get("BUILD_DIR", "build"), "interop", "hbone_peer")
    listener = socket.create_server(("127.0.0.4", 7))
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        hbone_port, plain_port = free_port("127.0.0.4"), free_port("127.0.0.4")
        peer = subprocess.Popen([peer_binary, directory, str(hbone_port)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        words = peer.stdout.readline().split()
        weft = dict(zip(words[::2], map(int, words[1::2])))
        config = os.path.join(directory, "envoy.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(envoy_config(directory, hbone_port, plain_port, weft), file)
        proxy = subprocess.Popen([binary, "-c", config, "--concurrency", "2", "--disable-hot-restart",
                                  "--log-level", "error"])
        try:
            connect("127.0.0.4", hbone_port).close()  # until it listens
            converse("weft client, envoy server", "127.0.0.1", weft["plain"])
            converse("envoy client, weft server", "127.0.0.4", plain_port)
        finally:
            proxy.terminate()
            proxy.wait()
            peer.stdin.close()
            refusals = peer.stdout.read()
            peer.wait()
            if refusals:
                print(refusals)


if __name__ == "__main__":
    main()
