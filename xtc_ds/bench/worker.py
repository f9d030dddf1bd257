"""One engine in a process of its own: reads orders from stdin and answers on stdout, a line of JSON each.

    python -m xtc_ds.bench.worker ENGINE FOLDER PEERS THREADS

An order is ``{"batch", "tokens", "seconds"}``; the answer ``{"ms": [one figure per run], "memory": bytes}``.
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

# The first line of a mapping in /proc/self/smaps: its addresses.
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")


def main() -> None:
    """Build the engine, say "ready", then obey until stdin ends."""
    name, folder, peers, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    # Libraries print; answers have a stream of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for architecture in config.get("architectures") or ():
        getattr(transformers, architecture, None)  # the code is no part of the model
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
    """Bytes of this process in memory, once what is free has been given back; libraries are not counted."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0  # no Linux: not known
    size, counted = 0, True
    for line in lines:
        if _MAPPING.match(line):
            # Code comes and goes with the pages that the system has to spare.
            counted = ".so" not in line and "/bin/" not in line
        elif counted and line.startswith("Rss:"):
            size += 1024 * int(line.split()[1])
    return size


if __name__ == "__main__":
    main()
