# SPDX-License-Identifier: Apache-2.0
"""HTTP GET over a unix socket: admin interfaces are reached so from any network namespace."""
import http.client
import json
import socket


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=5.0):
        super().__init__("admin", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def get(path, url):
    """The body of a 200 answer; OSError for any other and when nobody listens."""
    connection = Connection(path)
    try:
        connection.request("GET", url)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise OSError(f"{url}: {response.status} {body[:200]!r}")
        return body.decode()
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error}") from error
    finally:
        connection.close()


def get_json(path, url):
    return json.loads(get(path, url))
