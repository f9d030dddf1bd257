"""Small models of every stored format and their packed twins, for the committed files in ``golden``.

``python -m tests.checkpoint.golden_models FOLDER`` writes them anew; only a new format version should change one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

import xtc_ds
from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig, describe_packed
from xtc_ds.checkpoint.shell import mark_frozen, tie_packed_layers
from xtc_ds.checkpoint.shrinkage_json import write_shrinkage
from xtc_ds.formats import ActivationFormat, Grouping, get_format
from xtc_ds.formats.bits import pack_bits
from xtc_ds.plan.shrinkage import Shrinkage, ShrunkModule
from xtc_ds.runtime.packed import PackedSpec, share_packed_tensors
from xtc_ds.runtime.packed_layers import build_packed
from xtc_ds.storage import Coded, Dense, Factored, Masked, Places, Shared, Sparse

INTEGERS = [f"int{bits}{kind}" for bits in range(2, 9) for kind in ("", "_asymmetric")]
ROWS, GROUPS = Grouping("row"), Grouping("group", 3)
STATIC = ActivationFormat(8, True, "static")


def coded(name: str, grouping: Grouping, shape: tuple[int, ...]) -> Coded:
    return Coded(get_format(name), grouping, shape)


def sparse(around: Coded | Dense, places: Places) -> Sparse:
    return Sparse(around, places, around)


class Everything(nn.Module):
    """Layers of several kinds by name; it is only written and read."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def plain_v1() -> Everything:
    """Linear layers of every format and grouping, a table, a tied head, a layer with a static range, a norm."""
    linears = {name: nn.Linear(11, 6) for name in ["binary", "ternary", *INTEGERS]}
    model = Everything(**linears, table=nn.Embedding(7, 8), head=nn.Linear(8, 7), norm=nn.LayerNorm(8))
    model.add_module("static", nn.Linear(11, 6))
    model.head.weight = model.table.weight  # type: ignore[union-attr]
    return model


def specs_v1() -> dict[str, PackedSpec]:
    """What is packed of ``plain_v1``."""
    groupings = [Grouping("tensor"), ROWS, GROUPS]
    specs = {
        name: PackedSpec("linear", coded(name, groupings[place % 3], (6, 11)))
        for place, name in enumerate(["binary", "ternary", *INTEGERS])
    }
    specs["table"] = PackedSpec("embedding", coded("int4", ROWS, (7, 8)))
    specs["head"] = PackedSpec("linear", coded("int4", ROWS, (7, 8)))
    specs["static"] = PackedSpec("linear", Dense((6, 11)), STATIC)
    return specs


def plain_v2() -> Everything:
    """Convolutions, masked weights, and layers that lost a part."""
    return Everything(
        conv=nn.Conv2d(3, 4, 3, padding=1),
        norm=nn.BatchNorm2d(4),
        masked=nn.Linear(11, 6),
        shrunk=nn.Linear(11, 6),
        plain_shrunk=nn.Linear(6, 5),
    )


def specs_v2() -> dict[str, PackedSpec]:
    """What is packed of ``plain_v2``."""
    return {
        "conv": PackedSpec("conv2d", coded("ternary", ROWS, (3, 3, 3, 3)), ActivationFormat(8)),
        "masked": PackedSpec("linear", Masked(coded("int4_asymmetric", GROUPS, (6, 11)))),
        "shrunk": PackedSpec("linear", coded("binary", ROWS, (4, 11))),
    }


def plain_v3() -> Everything:
    """Layers that keep some of their weights."""
    return Everything(
        four=nn.Linear(16, 6), signs=nn.Linear(12, 6), eight=nn.Linear(11, 6), floats=nn.Linear(11, 6),
        norm=nn.LayerNorm(8), conv=nn.Conv2d(8, 3, 2), whole=nn.Linear(5, 3),
    )  # fmt: skip


def specs_v3() -> dict[str, PackedSpec]:
    """What is packed of ``plain_v3``."""
    tensor, dynamic = Grouping("tensor"), ActivationFormat(8)
    signs, floats = coded("ternary", tensor, (6, 12)), Dense((6, 11))
    return {
        "four": PackedSpec("linear", sparse(coded("int4", ROWS, (6, 16)), Places(48, (2, 4))), dynamic),
        "signs": PackedSpec("linear", Sparse(signs, Places(18, (1, 4)), coded("binary", tensor, (6, 12))), dynamic),
        "eight": PackedSpec("linear", sparse(coded("int8_asymmetric", GROUPS, (6, 11)), Places(20, None))),
        "floats": PackedSpec("linear", sparse(floats, Places(31, None))),
        "conv": PackedSpec("conv2d", sparse(coded("int3", ROWS, (3, 8, 2, 2)), Places(48, (4, 8)))),
        "whole": PackedSpec("linear", coded("binary", tensor, (3, 5))),
    }


def plain_v4() -> Everything:
    """Codebooks of all sizes, a masked one, a weight of low rank, and two layers with a bank."""
    linears = {f"kmeans{bits}": nn.Linear(11, 6) for bits in range(1, 9)}
    return Everything(
        **linears, table=nn.Embedding(7, 8), masked=nn.Linear(11, 6), sparse=nn.Linear(11, 6),
        factors=nn.Linear(11, 6), first=nn.Linear(5, 4), second=nn.Linear(5, 4), norm=nn.LayerNorm(8),
    )  # fmt: skip


def specs_v4() -> dict[str, PackedSpec]:
    """What is packed of ``plain_v4``."""
    groupings = [Grouping("tensor"), ROWS, GROUPS]
    shape, bank = (6, 11), coded("int4", ROWS, (2, 4, 5))
    low_rank = Factored((coded("kmeans2", ROWS, (6, 3)), Dense((3, 11))), "or,ri->oi", shape)
    return {
        **{
            f"kmeans{bits}": PackedSpec("linear", coded(f"kmeans{bits}", groupings[bits % 3], shape))
            for bits in range(1, 9)
        },
        "table": PackedSpec("embedding", coded("kmeans4", ROWS, (7, 8))),
        "masked": PackedSpec("linear", Masked(coded("kmeans8", ROWS, shape))),
        "sparse": PackedSpec("linear", sparse(coded("kmeans5", GROUPS, shape), Places(20, None)), ActivationFormat(8)),
        "factors": PackedSpec("linear", low_rank, ActivationFormat(8)),
        "first": PackedSpec("linear", Shared("bank", bank, 0)),
        "second": PackedSpec("linear", Shared("bank", bank, 1)),
    }


SHRUNK_V2 = Shrinkage(
    {
        "conv": ShrunkModule("Conv2d", (4, 3, 3, 3), (3, 3, 3, 3)),
        "norm": ShrunkModule("BatchNorm2d", (4,), (3,)),
        "shrunk": ShrunkModule("Linear", (6, 11), (4, 11)),
        "plain_shrunk": ShrunkModule("Linear", (5, 6), (5, 4)),
    }
)


def frozen(plain: nn.Module, specs: Mapping[str, PackedSpec], float_dtype: str, shrinkage: Shrinkage) -> nn.Module:
    """``plain`` packed by hand, with every code of every format in it and round scales."""
    from xtc_ds.freezing.shrinkage import shrink_empty

    shrink_empty(plain, shrinkage)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in [*plain.parameters(), *plain.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randint(-64, 65, tensor.shape, generator=generator) / 16)
    ties = {"head": "table"} if "head" in specs else {}
    for name, spec in specs.items():
        layer = build_packed(spec, plain.get_submodule(name))
        _fill(layer, plain.get_submodule(name), generator)
        setattr(plain, name, layer)
    for name, owner in ties.items():
        share_packed_tensors(plain.get_submodule(name), plain.get_submodule(owner))
    tie_packed_layers(plain, describe_packed(plain, float_dtype))
    config = XtcQuantizationConfig(float_dtype=float_dtype, pruned=write_shrinkage(shrinkage) if shrinkage else None)
    mark_frozen(plain, config)
    return plain.eval()


def _fill(layer: nn.Module, plain: nn.Module, generator: torch.Generator) -> None:
    spec: PackedSpec = layer.spec  # type: ignore[assignment]
    if getattr(plain, "bias", None) is not None:
        layer.bias.data.copy_(plain.bias)  # type: ignore[union-attr, arg-type]
    if spec.activation is not None and spec.activation.calibration == "static":
        layer.activation_quantizer.x_min_max.copy_(torch.tensor([-1.5, 2.25]))  # type: ignore[union-attr, operator]
    weight, mask = spec.weight, _mask(spec, generator)
    if weight.version == 4:
        _fill_parts(layer, mask, generator)
        return
    if spec.coded is None:
        tensors = {"weight": plain.weight} if spec.sparse is None else spec.sparse.pack(plain.weight, {}, mask)  # type: ignore[arg-type, dict-item]
        for part, value in tensors.items():
            getattr(layer, part).data.copy_(value)
        return
    weight_format, numel = spec.coded.format, math.prod(spec.shape)
    if spec.sparse is not None:
        assert isinstance(spec.sparse.kept_as, Coded)
        weight_format, numel = spec.sparse.kept_as.format, spec.sparse.places.kept
    low, high = weight_format.code_range
    codes = torch.randint(low, high + 1, (numel,), generator=generator).to(torch.int8)
    if weight_format.name == "binary":
        codes = torch.where(codes == 0, 1, codes)
    layer.weight.data.copy_(weight_format.pack(codes))  # type: ignore[union-attr, operator]
    groups = spec.coded.groups
    layer.weight_scale.copy_(torch.arange(1, groups + 1) / 32)  # type: ignore[operator]
    if "weight_zero" in layer._buffers:
        layer.weight_zero.copy_(torch.arange(groups) / 4 - 1)  # type: ignore[operator]
    if spec.sparse is not None:
        assert mask is not None
        layer.weight_mask.copy_(spec.sparse.places.pack(mask))  # type: ignore[operator]
    elif isinstance(weight, Masked):
        kept = torch.randint(0, 2, (numel,), generator=generator).to(torch.uint8)
        layer.weight_mask.copy_(pack_bits(kept, 1))  # type: ignore[operator]


def _fill_parts(layer: nn.Module, mask: torch.Tensor | None, generator: torch.Generator) -> None:
    """Any codes and round floats in every part."""
    spec: PackedSpec = layer.spec  # type: ignore[assignment]
    for part in spec.weight.parts():
        tensor = layer.get_parameter(part.name) if part.values else layer.get_buffer(part.name)
        if part.codes is not None:
            weight_format, count = part.codes
            low, high = weight_format.code_range
            value = weight_format.pack(torch.randint(low, high + 1, (count,), generator=generator).to(torch.int8))
        elif part.name == "weight_mask" and spec.sparse is not None:
            assert mask is not None
            value = spec.sparse.places.pack(mask)
        elif part.name == "weight_mask":
            value = pack_bits(torch.randint(0, 2, (math.prod(spec.shape),), generator=generator).to(torch.uint8), 1)
        else:
            value = torch.randint(-64, 65, part.shape, generator=generator) / 16
        tensor.data.copy_(value)


def _mask(spec: PackedSpec, generator: torch.Generator) -> torch.Tensor | None:
    """Random places as the spec's storage has them."""
    if spec.sparse is None:
        return None
    kept, of = spec.sparse.places.pattern or (spec.sparse.places.kept, math.prod(spec.shape))
    order = torch.rand((math.prod(spec.shape) // of, of), generator=generator).argsort(1)
    flat = torch.zeros(order.shape, dtype=torch.bool).scatter_(1, order[:, :kept], True).reshape(-1)
    if len(spec.shape) == 2:
        return flat.reshape(spec.shape)
    outputs, inputs, height, width = spec.shape
    return flat.reshape(outputs, height, width, inputs).permute(0, 3, 1, 2).contiguous()


MODELS = {
    "v1": lambda: frozen(plain_v1(), specs_v1(), "float16", Shrinkage()),
    "v2": lambda: frozen(plain_v2(), specs_v2(), "float32", SHRUNK_V2),
    "v3": lambda: frozen(plain_v3(), specs_v3(), "bfloat16", Shrinkage()),
    "v4": lambda: frozen(plain_v4(), specs_v4(), "float16", Shrinkage()),
}
PLAIN = {"v1": plain_v1, "v2": plain_v2, "v3": plain_v3, "v4": plain_v4}


def main(folder: Path) -> None:
    for name, build in MODELS.items():
        xtc_ds.export_packed(build(), folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
