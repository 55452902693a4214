#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Asks cutserver.py for an answer cut at each of its bytes; prints JSON: a list of [at, what was seen], where that is a
status, with "!" behind it when the body was cut short.

    cutclient.py ADDRESS FROM TO QUERY      QUERY may hold {at}"""
import http.client
import json
import sys

address, first, last, query = sys.argv[1:5]
seen = []
connection = None
for at in range(int(first), int(last)):
    try:
        if connection is None:
            connection = http.client.HTTPConnection(address, 80, timeout=90)
        connection.request("GET", f"/cut?at={at}&" + query.replace("{at}", str(at)))
        answer = connection.getresponse()
        status = str(answer.status)
        try:
            body = answer.read()
            if answer.status == 200 and body != b"0123456789":
                status += "!"
        except (http.client.HTTPException, OSError):
            status += "!"
            connection.close()
            connection = None
    except (http.client.HTTPException, OSError) as error:
        status = type(error).__name__
        connection = None
    seen.append([at, status])
print(json.dumps(seen))
