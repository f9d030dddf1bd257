"""Cases drawn at random."""

from __future__ import annotations

import numpy as np

from tests.parity.blocks import CONV_PRUNINGS, LINEAR_PRUNINGS, Block, activations, pruned, weights
from tests.parity.cases import Case

__all__ = ["random_cases"]


def random_cases(seed: int, count: int) -> list[Case]:
    """Cases drawn at random, for running both libraries side by side."""
    random = np.random.RandomState(seed)
    return [_random_model(f"random{number}", random) if number % 4 == 3 else _random_layer(f"random{number}", random)
            for number in range(count)]  # fmt: skip


def _random_quantizers(random: np.random.RandomState, least_bits: int, modules: str) -> tuple[Block, int]:
    """A block that may quantize weights and inputs, and how many batches calibrate it."""
    pick = random.choice
    block: Block = {}
    if random.uniform() < 0.6:
        bits = int(pick([each for each in (1, 2, 3, 4, 5, 6, 7, 8) if each >= least_bits]))
        kind = "symmetric" if bits < 3 else str(pick(["symmetric", "asymmetric"]))
        block |= weights(bits, int(pick([1, 2, 4, 8])), kind, modules)
    calibration = str(pick(["dynamic", "static"]))
    if random.uniform() < 0.4:
        block |= activations(int(pick([4, 8])), str(pick(["symmetric", "asymmetric"])), calibration, modules)
        return block, 3 if calibration == "static" else 0
    return block, 0


def _random_layer(name: str, random: np.random.RandomState) -> Case:
    """One layer under any of its prunings and quantizers."""
    pick = random.choice
    conv = random.uniform() < 0.35
    block, calibrate = _random_quantizers(random, 4 if conv else 1, "^0$")
    values, dtype = str(pick(["distinct", "normal", "normal", "huge", "tiny"])), "float32"
    if not block:
        values, dtype = str(pick(["normal", "ties", "some_zeros"])), str(pick(["float32", "bfloat16", "float16"]))
    prunings = CONV_PRUNINGS if conv else LINEAR_PRUNINGS
    for pruning in random.permutation(sorted(prunings))[: random.randint(0 if block else 1, 4)]:
        what, method = str(pruning).split("_")
        block |= pruned(what, round(random.uniform(0.05, 1), 3), method)
    model = str(pick(["convolution", "convolution_groups"] if conv else ["linear", "no_bias"]))
    return Case(name, model, block, values, int(random.randint(2**31)), dtype, calibrate)


def _random_model(name: str, random: np.random.RandomState) -> Case:
    """A whole model whose pruned parts are cut out."""
    pick = random.choice
    model = str(pick(["stack", "attention", "conv_net"]))
    method = "topk" if model == "attention" else str(pick(["l1", "topk"]))
    what = {"stack": "row", "attention": "head", "conv_net": "channel"}[model]
    modules, related = {
        "stack": (["^fc1$"], [["^fc2$"]]),
        "attention": (["^dense$"], [["^query$", "^key$", "^value$"]]),
        "conv_net": (["^conv1$"], [["^bn1$", "^conv2$"]]),
    }[model]
    every = {"conv_net": "conv"}.get(model, ".")
    block, calibrate = _random_quantizers(random, 4 if model == "conv_net" else 1, every)
    if block.pop("activation_quantization", None):
        # A named difference: inputs that are pruned do not widen the range.
        calibrate = 0
        block |= activations(8, modules=".") if model == "stack" else weights(8, modules=every)
    quantizer = block.get("weight_quantization", {"shared_parameters": {}})["shared_parameters"]
    # More groups than one cannot be parted where rows go: refused here.
    quantizer["quantize_groups"] = 1
    block |= pruned(what, round(random.uniform(0.05, 1), 3), method, modules, related)
    if random.uniform() < 0.3:
        block |= pruned("sparse", round(random.uniform(0.3, 1), 3), "l1", ["conv" if model == "conv_net" else "."])
    return Case(name, model, block, str(pick(["distinct", "normal"])), int(random.randint(2**31)), "float32", calibrate)
