# SPDX-License-Identifier: Apache-2.0
"""What a process costs: CPU time and resident memory."""
import os


def cpu_ns(pid):
    """Time on a CPU of all threads that live now, in ns. Not utime + stime: those come in ticks of 10 ms."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        except OSError:
            continue  # the thread ended
    return total


def memory_field(pid, *names):
    """Bytes from the page tables: the counters in /proc/PID/status are approximate since Linux 6.2."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.split(":")[0] in names:
                total += int(line.split()[1]) * 1024
    return total


def rss_bytes(pid):
    return memory_field(pid, "Rss")


def own_bytes(pid):
    """Without pages of files, which come and go as the kernel likes."""
    return memory_field(pid, "Pss_Anon", "Pss_Shmem")
