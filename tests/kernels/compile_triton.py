"""Compiles the Triton kernels for a GPU that need not be there, as the layers launch them.

    python tests/kernels/compile_triton.py [--all] CAPABILITY:FORMAT:TOKENS ...

With ``--all`` in every configuration that a trial on the GPU would try, else in the first of them.
Prints a line for each kernel: its name, bytes of machine code, bytes of spilled registers, bytes of shared memory.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from xtc_ds.formats import get_format

CUOBJDUMP = Path(triton.__path__[0]) / "backends" / "nvidia" / "bin" / "cuobjdump"


class Absent:
    """The driver of GPUs that are not there, one of each compute capability."""

    capability = 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0


def main(cases: list[str], every: bool) -> None:
    """Run the layers with launches that stop after compiling."""
    absent = Absent()
    driver.set_active(absent)
    launch = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = launch(self, *args, grid=grid, warmup=True, **options)
        print(self.fn.__name__, len(kernel.asm["cubin"]), spilled_bytes(kernel.asm["cubin"]), kernel.metadata.shared)
        return kernel

    JITFunction.run = compile_only
    from xtc_ds.kernels.triton.launch import Config, Tuner
    from xtc_ds.kernels.triton.linear import linear, triton_weight, weight_only_linear
    from xtc_ds.kernels.triton.matrix import unpacked_codes

    def launch_untried(
        self: Tuner, key: object, run: Callable[[Config], object], fits: Callable[[Config], bool] = lambda config: True
    ) -> None:
        for config in [config for config in self.configs if fits(config)][: None if every else 1]:
            run(config)

    Tuner.launch = launch_untried
    for case in cases:
        capability, name, tokens = case.split(":")
        absent.capability = int(capability)
        weight_format = get_format(name)
        weight = triton_weight(torch.ones(512, 640, dtype=torch.int8), weight_format)
        x = torch.ones(int(tokens), 640, dtype=torch.bfloat16)
        linear(x, weight, torch.ones(512), torch.ones(512))
        if weight.bits < 8 and len(x) > 1:
            weight_only_linear(x, weight, torch.ones(512), None)
            unpacked_codes(weight)


def spilled_bytes(cubin: bytes) -> int:
    """What ``cuobjdump`` finds on the stack of the only function."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        found = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True)
    stack = re.search(r"STACK:(\d+)", found.stdout)
    assert stack is not None, found.stdout
    return int(stack[1])


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument != "--all"], "--all" in sys.argv)
