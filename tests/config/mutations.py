"""Valid blocks that switch everything on, a tiny model that fits them, and random damage to them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from xtc_ds.config.schema import walk_properties

__all__ = ["BLOCKS", "TinyNet", "mutated_blocks"]


class TinyNet(nn.Module):
    """Embedding, layers of attention and feed-forward, convolutions with a batch norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.layers = nn.ModuleList(_Layer() for _ in range(3))
        self.first, self.norm, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x_BLD = self.embed(ids)
        for layer in self.layers:
            x_BLD = layer(x_BLD)
        x_BLD = x_BLD + self.second(self.norm(self.first(x_BLD.unsqueeze(1)))).squeeze(1)
        logits: Tensor = self.head(x_BLD.mean(1))
        return logits


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(8, 8) for _ in range(4))
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x_BLD: Tensor) -> Tensor:
        query, key, value = (part(x_BLD).unflatten(-1, (-1, 4)).transpose(1, 2) for part in self._parts())
        scores = query @ key.transpose(-1, -2) / math.sqrt(8)
        x_BLD = x_BLD + self.mix((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        result: Tensor = x_BLD + self.down(torch.relu(self.up(x_BLD)))
        return result

    def _parts(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value


def _technique(shared: dict[str, Any], **groups: Any) -> dict[str, Any]:
    return {"shared_parameters": {"enabled": True, **shared}, "different_groups": groups}


def _group(params: dict[str, Any], *modules: str, **more: Any) -> dict[str, Any]:
    return {"params": params, "modules": list(modules), **more}


_WEIGHTS = _technique(
    {
        "schedule_offset": 1,
        "quantize_groups": 2,
        "quantize_weight_in_forward": False,
        "fp16_mixed_quantize": {"enabled": True, "quantize_change_ratio": 0.5},
    },
    low=_group({"start_bits": 4, "target_bits": 1, "quantization_period": 1}, "query", "key"),
    high=_group({"start_bits": 8, "target_bits": 8, "rounding": "stochastic"}, "up", "down", exclude=["layers.0"]),
    table=_group({"start_bits": 2, "target_bits": 2, "quantize_groups": 1, "granularity": "row"}, "embed"),
)
_INPUTS = _technique(
    {"schedule_offset": 0, "range_calibration": "dynamic"},
    tokens=_group({"bits": 8}, "query", "key", "value"),
    layer=_group({"bits": 4, "range_calibration": "static", "quantization_type": "asymmetric"}, "up"),
)
_SPARSE = _technique(
    {"method": "snip_momentum", "schedule_offset": 1, "schedule_offset_end": 3, "schedule_offset_stride": 1},
    blocks=_group({"dense_ratio": 0.5, "block_pattern": "4x1"}, "key"),
    pairs=_group({"block_pattern": "2:4"}, "value"),
    single=_group({"method": "topk", "dense_ratio": 0.3, "block_pattern": None}, "head"),
)
_STACK = {"enabled": True, "keep_number_layer": 2, "module_name_prefix": "layers", "teacher_layer": [0, 2]}
BLOCKS: tuple[dict[str, Any], ...] = (
    {
        "layer_reduction": _STACK,
        "weight_quantization": _WEIGHTS,
        "activation_quantization": _INPUTS,
        "sparse_pruning": _SPARSE,
        "row_pruning": _technique({"method": "topk"}, r=_group({"dense_ratio": 0.5}, "up", related_modules=[["down"]])),
        "head_pruning": _technique(
            {"num_heads": 2, "schedule_offset": 0},
            h=_group({"dense_ratio": 0.5}, "mix", related_modules=[["query", "key", "value"]]),
        ),
        "channel_pruning": _technique(
            {"schedule_offset": 2}, c=_group({"dense_ratio": 0.5}, "first", related_modules=[["norm", "second"]])
        ),
        "export": {"float_dtype": "float16"},
    },
    {"weight_quantization": _WEIGHTS, "activation_quantization": _INPUTS, "kd": {"enabled": False}},
    {
        "sparse_pruning": _technique(
            {"method": "snip_momentum", "excluded_modules": ["head", "second", "first"], "dense_ratio": 0.4}
        ),
        "row_pruning": _technique({}, r=_group({"dense_ratio": 0.7}, "up", optional=True)),
    },
)

_KEYS = sorted({part for path, _ in walk_properties() for part in path.split(".")})
_MORE: dict[str, list[Any]] = {
    "modules": [["*"], "*", ["query"], ["up", "down"], ["nothing"], ["embed"], ["first"], ["norm"], ["layers.1"]],
    "exclude": [["key"], ["layers"], ["."]],
    "related_modules": [None, [["down"]], ["down"], [["down"], ["up"]], [["norm"]], [["nothing"]]],
    "num_heads": [1, 2, 3, 8, 10**9],
    "quantize_groups": [1, 2, 3, 4, 7, 64, 2**40],
    "dense_ratio": [1e-9, 0.1, 0.25, 0.9, 1, 1.0],
    "block_pattern": ["4x1", "1x1", "8x8", "3x3", "16x16", "2:4", "1:8", "3:7", "9999x1", None],
    "schedule_offset": [0, 1, 5, 2**62],
    "schedule_offset_end": [None, 0, 1, 4, 2**62],
    "teacher_layer": [[0], [1, 2], [0, 1, 2], [0, 9]],
    "keep_number_layer": [1, 2, 3, 4, 10**6],
}
_FITTING: dict[str, list[Any]] = {key: list(values) for key, values in _MORE.items()}
for _path, _node in walk_properties():
    _FITTING.setdefault(_path.rpartition(".")[2], []).extend([*_node.get("enum", []), *_node.get("examples", [])])
_JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2, 8, 1.5, -0.5, 10**400, -(2**63), 2**63, math.nan, math.inf, "", "*", "(", "x" * 99,
    "1", "true", "\ud800", [], [[]], [None], [1, 2], {}, {"a": {}}, {"enabled": True}, {"params": {}}, [[["*"]]],
]  # fmt: skip
_VALUES = st.one_of(st.sampled_from(_JUNK), st.integers(-3, 40), st.floats(), st.text(max_size=4))
_STEP = st.tuples(
    st.sampled_from(["fit", "fit", "fit", "delete", "rename", "replace", "insert", "nest"]),
    st.integers(0, 10**6),
    st.sampled_from(_KEYS),
    st.integers(0, 10**6),
    _VALUES,
)


def mutated_blocks(most: int, blocks: Sequence[dict[str, Any]] = BLOCKS) -> st.SearchStrategy[Any]:
    """One of ``blocks`` after 1 to ``most`` random changes."""
    steps = st.lists(_STEP, min_size=1, max_size=most)
    return st.builds(_mutate, st.sampled_from(blocks), steps)


def _mutate(valid: dict[str, Any], steps: list[tuple[str, int, str, int, Any]]) -> Any:
    block = copy.deepcopy(valid)
    for action, place, key, choice, value in steps:
        _change(block, action, place, key, choice, copy.deepcopy(value))
    return block


def _entries(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) below ``node``."""
    found: list[tuple[Any, Any]] = []
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        found += [(node, key), *_entries(node[key])]
    return found


def _change(block: dict[str, Any], action: str, place: int, key: str, choice: int, value: Any) -> None:
    entries = _entries(block)
    if not entries:
        return
    holder, at = entries[place % len(entries)]
    if action == "fit":
        fitting = _FITTING.get(at, [value])
        holder[at] = copy.deepcopy(fitting[choice % len(fitting)])
    elif action == "delete":
        del holder[at]
    elif action == "rename" and isinstance(holder, dict):
        holder[key if choice % 2 else f"{at}s"] = holder.pop(at)
    elif action == "insert" and isinstance(holder, dict):
        fitting = _FITTING.get(key, [value])
        holder[key] = copy.deepcopy(fitting[choice % len(fitting)]) if choice % 3 else value
    elif action == "nest":
        holder[at] = {key: holder[at]} if choice % 2 else [holder[at]]
    else:
        holder[at] = value
