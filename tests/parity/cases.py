"""What both libraries are asked to compute: a tiny model, its values and a compression_training block."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.parity.blocks import (
    CONV_PRUNINGS,
    CONV_WEIGHTS,
    LINEAR_PRUNINGS,
    WEIGHTS,
    Block,
    activations,
    pruned,
    technique,
    weights,
)

__all__ = ["CASES", "DIFFERENT", "Case"]

TIED = ("ties", "zeros", "some_zeros")


@dataclass(frozen=True)
class Case:
    """One forward, backward and clean of ``model`` under ``block``.

    values: which weights, see ``models.fill``. calibrate: training batches before, for static activations.
    """

    name: str
    model: str
    block: Block = field(compare=False)
    values: str = "distinct"
    seed: int = 0
    dtype: str = "float32"
    calibrate: int = 0

    @property
    def sums_are_exact(self) -> bool:
        """Whether every sum of products fits float32, so that not even their order matters."""
        single = self.model in ("linear", "square", "no_bias", "one", "convolution", "convolution_groups")
        quantized = {"weight_quantization", "activation_quantization"} & set(self.block)
        return single and not quantized and self.values == "distinct" and self.dtype == "float32"

    @property
    def reads_constants(self) -> bool:
        """Whether a norm makes constants of pruned channels: a named difference of everything behind it."""
        return self.model == "conv_net" and "channel_pruning" in self.block

    @property
    def has_ties(self) -> bool:
        """Whether scores may be equal, so that which of them stay is the sort's own affair."""
        return self.values in TIED

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _prunings() -> list[Case]:
    cases = []
    for values in ("distinct", "normal", "huge", "tiny", "ties", "zeros", "some_zeros"):
        for name, block in LINEAR_PRUNINGS.items():
            cases.append(Case(f"linear/{name}/{values}", "linear", block, values))
        for name, block in CONV_PRUNINGS.items():
            if values in ("distinct", "normal", "ties", "zeros"):
                cases.append(Case(f"convolution/{name}/{values}", "convolution", block, values))
    for name, block in LINEAR_PRUNINGS.items():
        cases.append(Case(f"no_bias/{name}", "no_bias", block))
    for name in ("sparse_l1", "channel_topk"):
        cases.append(Case(f"convolution_groups/{name}", "convolution_groups", CONV_PRUNINGS[name]))
    # Shares whose product with the count is just above a whole number in floating point: one more stays.
    for ratio in (0.07, 0.55, 0.001, 0.999):
        cases.append(Case(f"square/sparse_{ratio}", "square", pruned("sparse", ratio, "l1"), seed=5))
        cases.append(Case(f"square/row_{ratio}", "square", pruned("row", ratio, "topk"), seed=5))
    cases += [Case(f"one/{what}", "one", pruned(what, 0.5, "topk")) for what in ("sparse", "row")]
    for dtype in ("bfloat16", "float16"):
        for name in ("sparse_l1", "sparse_topk", "row_topk", "head_topk"):
            cases.append(Case(f"linear/{name}/{dtype}", "linear", LINEAR_PRUNINGS[name], dtype=dtype, seed=3))
    return cases


def _combined() -> list[Case]:
    both = LINEAR_PRUNINGS["sparse_l1"] | LINEAR_PRUNINGS["row_topk"] | LINEAR_PRUNINGS["head_topk"]
    cases = [Case(f"linear/{name}", "linear", block, seed=11) for name, block in WEIGHTS.items()]
    for name, block in WEIGHTS.items():
        cases.append(Case(f"linear/{name}+all", "linear", block | both, seed=12))
    for name in ("w1_g8", "w2_g4", "w8_asym_g8"):
        for pruning in ("sparse_topk", "row_l1", "head_topk"):
            cases.append(Case(f"linear/{name}+{pruning}", "linear", WEIGHTS[name] | LINEAR_PRUNINGS[pruning], seed=13))
    for bits, kind, calibration in (
        (8, "symmetric", "dynamic"),
        (4, "asymmetric", "dynamic"),
        (8, "symmetric", "static"),
    ):
        inputs = activations(bits, kind, calibration)
        steps = 3 if calibration == "static" else 0
        name = f"a{bits}_{kind}_{calibration}"
        cases.append(Case(f"linear/{name}+all", "linear", WEIGHTS["w8_g8"] | inputs | both, seed=14, calibrate=steps))
        cases.append(Case(f"convolution/{name}", "convolution", inputs, seed=15, calibrate=steps))
        block = CONV_WEIGHTS["w8_g8"] | inputs | CONV_PRUNINGS["channel_l1"]
        cases.append(Case(f"convolution/{name}+w8+channel_l1", "convolution", block, seed=16, calibrate=steps))
    for name, block in CONV_WEIGHTS.items():
        cases.append(Case(f"convolution/{name}", "convolution", block, seed=17))
        for pruning in ("sparse_topk", "channel_l1"):
            both = block | CONV_PRUNINGS[pruning]
            cases.append(Case(f"convolution/{name}+{pruning}", "convolution", both, seed=18))
    return cases


def _whole_models() -> list[Case]:
    cases = []
    pair: dict[str, Any] = {"modules": ["^fc1$"], "related": [["^fc2$"]]}
    heads: dict[str, Any] = {"modules": ["^dense$"], "related": [["^query$", "^key$", "^value$"]]}
    channels: dict[str, Any] = {"modules": ["^conv1$"], "related": [["^conv2$", "^bn1$"]]}
    for method in ("l1", "topk"):
        row = pruned("row", 0.4, method, **pair)
        cases.append(Case(f"stack/row_{method}", "stack", row, seed=21))
        cases.append(Case(f"stack/row_{method}+w8", "stack", row | weights(8, modules="fc|head"), seed=22))
        cases.append(
            Case(
                f"stack/row_{method}+w1+a8",
                "stack",
                row | weights(1, modules="fc") | activations(modules="fc"),
                seed=23,
            )
        )
        channel = pruned("channel", 0.4, method, **channels)
        cases.append(Case(f"conv_net/channel_{method}", "conv_net", channel, seed=24))
        cases.append(Case(f"conv_net/channel_{method}+w8", "conv_net", channel | weights(8, modules="conv"), seed=25))
    head = pruned("head", 0.5, "topk", **heads)
    cases.append(Case("attention/head_topk", "attention", head, seed=26))
    cases.append(Case("attention/head_topk+w8", "attention", head | weights(8, modules="."), seed=27))
    per_row = weights(8, 16, modules="query|key|value")
    cases.append(Case("attention/head_topk+w8_per_row", "attention", head | per_row, seed=28))
    cases.append(Case("attention/head_topk+w2", "attention", head | weights(2, modules="."), seed=29))
    row = pruned("row", 0.5, "l1", modules=["^fc1$"], related=[["^fc2$"]])
    cases.append(Case("stack/row_l1+w4_per_row", "stack", row | weights(4, 24, modules="^fc1$"), seed=30))
    sparse = pruned("sparse", 0.4, "l1", modules=["fc"])
    cases.append(Case("stack/sparse+row", "stack", sparse | row, seed=31))
    cases.append(Case("stack/sparse+row+w8", "stack", sparse | row | weights(8, modules="fc"), seed=32))
    for bits in (1, 2, 4, 8):
        cases.append(Case(f"lookup/w{bits}", "lookup", weights(bits, modules="table|fc"), seed=33))
    return cases


def _named_differences() -> list[Case]:
    """What comes out otherwise here, on purpose: each has a test of its own."""
    falling = technique(
        "weight_quantization",
        {"start_bits": 8, "target_bits": 4, "quantization_period": 1},
        ["^0$"],
        quantize_groups=16,
        quantize_weight_in_forward=True,
    )
    pairs = {"fc1": "fc2", "fc2": "head"}
    one_group = pruned("row", 0.5, "l1", [f"^{name}$" for name in pairs], [[f"^{name}$"] for name in pairs.values()])
    two_groups = copy.deepcopy(one_group)
    two_groups["row_pruning"]["different_groups"] = {
        name: {"params": {"dense_ratio": 0.5}, "modules": [f"^{name}$"], "related_modules": [[f"^{related}$"]]}
        for name, related in pairs.items()
    }
    heads: dict[str, Any] = {"modules": ["^dense$"], "related": [["^query$", "^key$", "^value$"]]}
    quantized_heads = pruned("head", 0.5, "topk", **heads) | weights(2, modules=".") | activations(modules=".")
    moq = weights(4, 16, quantize_weight_in_forward=False)
    return [
        Case("even_stack/two_pairs_in_one_group", "even_stack", one_group, seed=41),
        Case("even_stack/two_pairs_in_two_groups", "even_stack", two_groups, seed=41),
        Case("attention/head_topk+w2+a8", "attention", quantized_heads, seed=29),
        Case("linear/falling_bits", "linear", falling, seed=11),
        Case("linear/moq", "linear", moq, seed=11),
        Case("circular/w8", "circular", weights(8), seed=42),
        *(
            Case(f"linear/{kind}_uncalibrated", "linear", activations(8, kind, "static"), seed=43)
            for kind in ("symmetric", "asymmetric")
        ),
    ]


CASES: dict[str, Case] = {case.name: case for case in (*_prunings(), *_combined(), *_whole_models())}
# Two pairs of related modules in two groups are no difference, but what the one group should have given.
DIFFERENT: dict[str, Case] = {case.name: case for case in _named_differences()}
