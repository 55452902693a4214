# SPDX-License-Identifier: Apache-2.0
"""Runs cases on all candidates in turn (A B C A B C ...): what drifts on the machine hits all of them alike."""
import contextlib
import statistics
import sys

from e2e.lib.shell import Failed

from . import profile


class Case:
    """One row of the table. `target`: see report.py."""

    def __init__(self, name, unit, better, target=None):
        self.name, self.unit, self.better, self.target = name, unit, better, target


class Session:
    """The candidates, the samples taken, the problems met."""

    def __init__(self, bench, candidates, options):
        self.bench, self.candidates = bench, candidates
        self.runs, self.seconds, self.quick = options.runs, options.seconds, options.quick
        self.profiles = options.profile
        self.samples, self.problems, self.active = {}, [], None

    def candidate(self, name):
        return next((candidate for candidate in self.candidates if candidate.name == name), None)

    @contextlib.contextmanager
    def using(self, candidate):
        """Makes `candidate` the active one; the last one lets go first."""
        if self.active is not candidate:
            if self.active:
                self.active.deactivate()
            self.active = None
            candidate.activate()
            self.active = candidate
        yield candidate

    def close(self):
        if self.active:
            self.active.deactivate()
        self.active = None

    def add(self, case, candidate, value):
        self.samples.setdefault(case, {}).setdefault(candidate, []).append(value)

    def alternate(self, measure, names=None, runs=None):
        """measure(session, candidate) returns {case: value}. A candidate that fails has no value in that round."""
        failed = set()
        for number in range(runs or self.runs):
            for candidate in self.candidates:
                if candidate.name in failed or (names and candidate.name not in names):
                    continue
                self.progress(f"{measure.__name__} {number + 1}/{runs or self.runs} {candidate.name}")
                try:
                    with self.using(candidate), self.profiled(measure, candidate):
                        for case, value in measure(self, candidate).items():
                            self.add(case, candidate.name, value)
                except (Failed, OSError) as error:
                    failed.add(candidate.name)
                    self.problems.append(f"{measure.__name__} with {candidate.name}: {str(error)[:2000]}")

    def profiled(self, measure, candidate):
        pids = candidate.pids() if self.profiles else []
        return profile.recorded(self.profiles, f"{measure.__name__}-{candidate.name}", pids)

    @staticmethod
    def progress(text):
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def results(self, cases):
        """The rows of the JSON file: medians, and every sample that they come from."""
        rows = []
        for case in cases:
            samples = self.samples.get(case.name, {})
            medians = {c.name: statistics.median(samples[c.name]) if samples.get(c.name) else None
                       for c in self.candidates}
            rows.append({"case": case.name, "unit": case.unit, "better": case.better, **medians,
                         "runs": max((len(values) for values in samples.values()), default=0), "samples": samples})
        return rows
