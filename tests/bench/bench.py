#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares Weft with no mesh and with other meshes, in network namespaces of this machine. See README.md.

bench.py --suite l4 --out build/bench/l4.json     measures; prints a table
bench.py --compare OLD.json NEW.json              two runs' ratios
"""
import argparse
import importlib
import json
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from e2e.lib.shell import Failed  # noqa: E402
from lib import quiet, report  # noqa: E402
from lib.candidate import Direct, Missing  # noqa: E402
from lib.envoy import Envoy  # noqa: E402
from lib.load import NETLOAD  # noqa: E402
from lib.measure import Session  # noqa: E402
from lib.topology import Bench  # noqa: E402
from lib.weft import Weft  # noqa: E402

CANDIDATES = {"direct": Direct, "weft": Weft, "envoy": Envoy}
OF_OTHER_SUITES = ("nginx", "haproxy")


def arguments():
    quick = os.environ.get("QUICK", "") not in ("", "0")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="l4", help="a file of cases in suites/ (default: l4)")
    parser.add_argument("--cases", help="only these, separated by commas")
    parser.add_argument("--candidates", default=",".join((*CANDIDATES, *OF_OTHER_SUITES)), help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=2 if quick else 5, help="rounds of A B C (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0 if quick else 3.0,
                        help="length of one measurement (default: %(default)s)")
    parser.add_argument("--family", type=int, choices=(4, 6), default=4, help="IP version of the traffic")
    parser.add_argument("--quick", action="store_true", default=quick, help="fewer samples of memory and configuration")
    parser.add_argument("--profile", metavar="DIR", help="perf reports of the last round go there (it costs speed)")
    parser.add_argument("--out", help="where the JSON goes")
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"))
    return parser.parse_args()


def pick(suite, names):
    known = {case.name for case in suite.CASES}
    wanted = set(names.split(",")) if names else known
    if wanted - known:
        sys.exit(f"bench: no case {', '.join(sorted(wanted - known))}; there are: {', '.join(sorted(known))}")
    return wanted


def gather(bench, names):
    found = []
    for name in names.split(","):
        if name not in CANDIDATES:
            if name not in OF_OTHER_SUITES:
                sys.exit(f"bench: no candidate {name}; there are: {', '.join((*CANDIDATES, *OF_OTHER_SUITES))}")
            continue
        try:
            found.append(CANDIDATES[name](bench))
        except Missing as missing:
            print(f"bench: the column {name} is absent. {missing}")
    return found


def measure(options, suite, wanted):
    with Bench(options.family) as bench:
        found = (suite.gather(bench, options.candidates.split(",")) if hasattr(suite, "gather")
                 else gather(bench, options.candidates))
        session = Session(bench, found, options)
        try:
            suite.run(session, wanted)
        finally:
            session.close()
    return session


def write(path, rows):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
        file.write("\n")
    os.rename(path + ".new", path)


def main():
    options = arguments()
    if options.compare:
        print(report.compare(*options.compare))
        return 0
    if not os.path.exists(NETLOAD):
        sys.exit(f"bench: no {NETLOAD} (make bench builds it; BUILD_DIR says where the build is)")
    if os.geteuid() != 0:
        sys.exit("bench: needs root, for network namespaces and BPF")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda which, _: sys.exit(128 + which))
    suite = importlib.import_module(f"suites.{options.suite}")
    wanted, begin = pick(suite, options.cases), time.monotonic()
    for warning in quiet.warnings():
        print(f"bench: {warning}")
    session = measure(options, suite, wanted)
    cases = [case for case in suite.CASES if case.name in wanted]
    rows = session.results(cases)
    session.progress("")
    print(report.table(cases, rows))
    print(f"{time.monotonic() - begin:.0f} s, {options.runs} rounds of {options.seconds:g} s, IPv{options.family}, "
          f"{os.cpu_count()} CPUs")
    if options.out:
        write(options.out, rows)
        print(f"written to {options.out}")
    for problem in session.problems:
        print(f"bench: {problem}", file=sys.stderr)
    return 1 if session.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"bench: {error}")
