# SPDX-License-Identifier: Apache-2.0
"""Programs that are written in Go and have no package: taken from PATH, or fetched and built before namespaces are entered."""
import os
import subprocess

import pytest

from .shell import BUILD, ROOT

MODULES = {"fortio": "fortio.org/fortio@v1.66.3", "ghz": "github.com/bojand/ghz/cmd/ghz@v0.120.0"}


def go_tool(name):
    done = subprocess.run([os.path.join(ROOT, "tools/go-tool"), BUILD, name, MODULES[name]], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        pytest.skip(done.stderr.strip())
    return done.stdout.strip()
