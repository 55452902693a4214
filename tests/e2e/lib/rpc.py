# SPDX-License-Identifier: Apache-2.0
"""gRPC servers and clients in pods, by rpcserver.py and rpcclient.py."""
import json
import os

from .traffic import PYTHON, last_line

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 5051  # gRPC's usual 50051 may be anybody's: the kernel hands it out


def serve(place, port=PORT, **options):
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = place.spawn(PYTHON, os.path.join(HERE, "rpcserver.py"), port, "--name", place.name, *words,
                          name=f"rpc-{place.name}")
    return process.wait_output("listening")


def words_of(target, method, request=None, **options):
    words = [PYTHON, os.path.join(HERE, "rpcclient.py"), target, method, json.dumps(request or {})]
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            words += [f"--{name}", item]
    return words


def call(place, target, method, request=None, **options):
    """What rpcclient.py printed; a method without a service is of weft.test.Echo."""
    method = method if "/" in method else f"weft.test.Echo/{method}"
    done = place.run(*words_of(target, method, request, **options))
    return json.loads(done.stdout.splitlines()[-1])


def begin(place, target, method, request=None, **options):
    method = method if "/" in method else f"weft.test.Echo/{method}"
    return place.spawn(*words_of(target, method, request, **options), name=f"rpc-load-{place.name}")


def end(process):
    return last_line(process, 300)


def fields(pairs, name):
    return [value for key, value in pairs if key == name]
