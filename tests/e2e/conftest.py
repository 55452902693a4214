# SPDX-License-Identifier: Apache-2.0
"""Fixtures: `net` (empty, one test), `town` (two nodes with pods, services and agents, shared by a module)."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import telling  # noqa: E402
from lib import town as towns  # noqa: E402
from lib.net import Net  # noqa: E402


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def net(tmp_path):
    with Net(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Net(tmp_path_factory.mktemp("town")) as made:
        yield towns.build(made)


@pytest.fixture
def documents(town):
    """Documents in force for one test, in the module's own town."""
    def write(text):
        town.mesh.write("21-test.yaml", text)
        town.mesh.settle()
        for agent in town.mesh.agents.values():
            assert agent.api("/v1/status")["config"]["problems"] == []
    yield write
    try:
        town.mesh.remove("21-test.yaml")
    except FileNotFoundError:
        pass
    town.mesh.settle()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    Net.made = [made for made in Net.made if not made.closed]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """A failure shows what the agents think, and the end of what each process of the net said: a log of CI has to do."""
    report = (yield).get_result()
    if report.failed:
        for made in Net.made[-2:]:
            report.sections += telling.sections(made)
