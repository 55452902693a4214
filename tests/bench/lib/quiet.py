# SPDX-License-Identifier: Apache-2.0
"""Is this machine quiet enough to measure on?"""
import glob
import os


def warnings():
    """Sentences about what else goes on here; none on a machine that has nothing else to do."""
    found = []
    others = [os.path.basename(path) for path in glob.glob("/sys/fs/bpf/weft/*") if os.listdir(path)]
    if others:
        found.append(f"{len(others)} other Weft instances ({', '.join(sorted(others)[:4])}) are attached to this kernel: "
                     "their programs run on every connection of this benchmark too")
    load = os.getloadavg()[0]
    if load > 0.3 * os.cpu_count():
        found.append(f"the load is {load:.1f} on {os.cpu_count()} CPUs: round trips and ratios will scatter")
    return found
