#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Many requests over some keep-alive connections; prints "begins", and at the end JSON: {"status": {"200": n},
"server": {"name": n}, "failed": n}.

    webload.py ADDRESS PORT --requests N [--connections C] [--host H] [--path P] [--header K:V]... [--seconds S]

SIGTERM ends it early."""
import argparse
import collections
import http.client
import json
import signal
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("address")
parser.add_argument("port", type=int)
parser.add_argument("--requests", type=int, default=100)
parser.add_argument("--connections", type=int, default=4)
parser.add_argument("--host", default="")
parser.add_argument("--path", default="/")
parser.add_argument("--header", action="append", default=[])
parser.add_argument("--seconds", type=float, default=0)
options = parser.parse_args()
status, server, errors = collections.Counter(), collections.Counter(), collections.Counter()
lock = threading.Lock()
until = time.monotonic() + options.seconds if options.seconds else None


def stop(*_):
    global until
    until = 1e-9


signal.signal(signal.SIGTERM, stop)
print("begins", flush=True)


def work(count):
    headers = dict(item.split(":", 1) for item in options.header)
    if options.host:
        headers["Host"] = options.host
    connection = None
    seen, names, failed = collections.Counter(), collections.Counter(), collections.Counter()
    i = 0
    while (time.monotonic() < until) if until else i < count:
        i += 1
        try:
            if connection is None:
                connection = http.client.HTTPConnection(options.address, options.port, timeout=90)
            connection.request("GET", options.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            seen[str(answer.status)] += 1
            if answer.getheader("x-server"):
                names[answer.getheader("x-server")] += 1
        except OSError as error:
            failed[type(error).__name__] += 1
            connection = None
        except http.client.HTTPException as error:
            failed[type(error).__name__] += 1
            connection = None
    with lock:
        status.update(seen)
        server.update(names)
        errors.update(failed)


threads = [threading.Thread(target=work, args=(options.requests // options.connections,))
           for _ in range(options.connections)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"status": status, "server": server, "errors": errors, "failed": sum(errors.values())}))
