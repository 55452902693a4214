# SPDX-License-Identifier: Apache-2.0
"""gRPC servers and clients in pods, by rpcserver.py and rpcclient.py."""
import json
import os

from .shell import wait_for
from .traffic import PYTHON

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 50051


def serve(place, port=PORT, **options):
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = place.spawn(PYTHON, os.path.join(HERE, "rpcserver.py"), port, "--name", place.name, *words,
                          name=f"rpc-{place.name}")
    wait_for(f"the gRPC server of {place.name} to listen", lambda: "listening" in process.output(), 30)
    return process


def words_of(target, method, request=None, **options):
    words = [PYTHON, os.path.join(HERE, "rpcclient.py"), target, method, json.dumps(request or {})]
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            words += [f"--{name}", item]
    return words


def call(place, target, method, request=None, **options):
    """What rpcclient.py printed; a method without a service is of weft.test.Echo."""
    method = method if "/" in method else f"weft.test.Echo/{method}"
    done = place.run(*words_of(target, method, request, **options), timeout=90)
    return json.loads(done.stdout.splitlines()[-1])


def begin(place, target, method, request=None, **options):
    method = method if "/" in method else f"weft.test.Echo/{method}"
    return place.spawn(*words_of(target, method, request, **options), name=f"rpc-load-{place.name}")


def end(process, timeout=60):
    process.popen.wait(timeout)
    return json.loads(process.output().splitlines()[-1])


def fields(pairs, name):
    return [value for key, value in pairs if key == name]
