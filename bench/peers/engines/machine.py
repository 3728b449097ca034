"""What the run is made on, and how much of it others use meanwhile."""

import os
import pathlib
import platform
import time

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "avx_vnni")
TICK = os.sysconf("SC_CLK_TCK")


def description():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    present = set(facts.get("flags", "").split())
    return {
        "cpu": facts.get("model name", platform.processor()),
        "family_model_stepping": [facts.get(key) for key in ("cpu family", "model", "stepping")],
        "cache": facts.get("cache size"),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "flags": {flag: flag in present for flag in FLAGS},
        "kernel": platform.release(),
    }


class Watch:
    """CPU time that neither idled nor went to the watched process, from here on, in cores.

    The kernel counts in hundredths of a second: over less than half a second this is a rough number.
    """

    def __init__(self, process):
        self.process = process
        self.busy, self.own = busy(), own(process)

    def others(self, seconds):
        spent = busy() - self.busy - (own(self.process) - self.own)
        return max(0.0, spent / TICK / max(seconds, 1e-9))


def busy():
    """Clock ticks of all cores that were not idle, what the host took away included."""
    user, nice, system, _, _, interrupt, soft, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return user + nice + system + interrupt + soft + steal


def own(process):
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def wait_for_quiet(cores, patience, look=0.2):
    """Returns once the whole machine used at most so many cores for a moment, or after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = busy()
        time.sleep(look)
        if (busy() - before) / TICK / look <= cores:
            return
