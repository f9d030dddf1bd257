"""Runs one engine in its own process: reads orders from stdin and answers on stdout, one line of JSON each.

    python -m xtc_ds.bench.worker ENGINE FOLDER PEERS THREADS

An order is ``{"batch", "tokens", "seconds"}``; the answer is ``{"ms": [one value per run], "memory": bytes}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import re
import sys
import time
from pathlib import Path

import torch
import transformers

from xtc_ds.bench.engines import ENGINES

# The first line of each mapping in /proc/self/smaps begins with its address range.
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")


def main() -> None:
    """Build the engine, answer "ready", then process orders until the end of stdin."""
    name, folder, peers, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    # Libraries may print to stdout: redirect it to stderr, and write answers to a copy of the original stdout.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for architecture in config.get("architectures") or ():
        getattr(transformers, architecture, None)  # import it now: its code must not count as memory
    empty = resident()
    run = ENGINES[name].make(folder, peers, threads)
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        ids = torch.randint(0, config["vocab_size"], (order["batch"], order["tokens"]))
        times: list[float] = []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < order["seconds"]:
            start = time.perf_counter()
            run(ids)
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"ms": times, "memory": resident() - empty}), file=answers)


def resident() -> int:
    """Resident memory of this process in bytes, after freed memory was returned to the system; without libraries."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0  # not available outside Linux
    size, counted = 0, True
    for line in lines:
        if _MAPPING.match(line):
            # Code is not counted, because the system loads and drops its pages as it likes.
            counted = ".so" not in line and "/bin/" not in line
        elif counted and line.startswith("Rss:"):
            size += 1024 * int(line.split()[1])
    return size


if __name__ == "__main__":
    main()
