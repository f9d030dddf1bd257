"""Whole packed models on the Triton kernels: the numbers that the same layers give without them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.kernels.triton_cases import DEVICE
from tests.tiny import batch, block, tiny_model
from xtc_ds.kernels.backends.triton import TritonLinear
from xtc_ds.kernels.triton.packed import TritonProduct
from xtc_ds.runtime import PackedLinear

INPUTS = {name: value.to(DEVICE) for name, value in batch(2, 5, labels=False).items()}
HEADS = ["^classifier$|^score$"]


def packed_folder(folder: Path, kind: str = "bert", calibrate: bool = False, **options: Any) -> Path:
    model = tiny_model(kind, layers=1, **({"hidden_size": 40} if kind == "bert" else {}))
    xtc_ds.compress(model, xtc_ds.parse_block(block(exclude=HEADS, **options)))
    if calibrate:
        model.train()(**batch(labels=False))
    xtc_ds.export_packed(model.eval(), folder)
    return folder


def linears(model: Any) -> list[PackedLinear]:
    return [module for module in model.modules() if isinstance(module, PackedLinear)]


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    result: torch.Tensor = model(**INPUTS).logits
    return result


def reference(model: Any) -> torch.Tensor:
    """Logits of a copy whose layers do without Triton."""
    plain = copy.deepcopy(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TritonLinear, "refuses", lambda *_: "not now")
        expected = logits(plain)
    assert not any(triton_products(plain))
    return expected


def triton_products(model: Any) -> list[list[TritonProduct]]:
    """The Triton products that each layer has bound."""
    return [[p for p in layer._bound.values() if isinstance(p, TritonProduct)] for layer in linears(model)]


QUANTIZED: dict[str, dict[str, Any]] = {
    "binary": {},
    "ternary, static": {"bits": 2, "activation_shared": {"range_calibration": "static"}, "calibrate": True},
    "llama, int4": {"bits": 4, "kind": "llama"},
}


@pytest.mark.parametrize("case", QUANTIZED)
def test_quantized_inputs_give_the_same_bits(case: str, tmp_path: Path) -> None:
    model = xtc_ds.load(packed_folder(tmp_path / "packed", **QUANTIZED[case])).to(DEVICE)
    expected = reference(model)
    for runtime in ("packed", "unpacked"):
        xtc_ds.set_runtime(model, runtime)
        assert not any(triton_products(model))
        assert torch.equal(logits(model), expected)
        assert all(product.whole_bytes == (runtime == "unpacked") for (product,) in triton_products(model))
    assert torch.equal(logits(pickle.loads(pickle.dumps(model))), expected)


@pytest.mark.parametrize(("kind", "dtype"), [("bert", torch.float16), ("llama", torch.bfloat16)])
def test_half_precision_models(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = xtc_ds.load(packed_folder(tmp_path / "packed", kind), dtype=dtype).to(DEVICE)
    expected = reference(model)
    assert expected.dtype == dtype
    assert torch.equal(logits(model), expected)
    assert all(triton_products(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_alone_differ_by_the_order_of_sums(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = packed_folder(tmp_path / "packed", "llama", bits=4, activation=None)
    model = xtc_ds.load(folder, dtype=dtype).to(DEVICE)
    expected = reference(model)
    assert torch.allclose(logits(model), expected, atol=8 * torch.finfo(dtype).eps * float(expected.abs().max()))
    assert all(triton_products(model))
    # Unpacked, weights are floats that the library multiplies; so they are for gradients and for float32.
    xtc_ds.set_runtime(model, "unpacked")
    assert torch.equal(logits(model), expected)
    layer = linears(xtc_ds.load(folder, dtype=dtype).to(DEVICE))[0]
    x = torch.randn(1, layer.in_features, device=DEVICE, dtype=dtype, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer.dense_weight().to(dtype).sum(0), atol=0.1)
    layer(x.detach().float())
    assert not any(triton_products(layer))


def test_a_sparse_weight_is_multiplied_too(tmp_path: Path) -> None:
    compression = block(exclude=HEADS)
    compression["sparse_pruning"] = {
        "shared_parameters": {"enabled": True, "schedule_offset": 0, "method": "l1"},
        "different_groups": {"all": {"params": {"dense_ratio": 0.1}, "modules": ["query"]}},
    }
    model = tiny_model(layers=1).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(compression))
    xtc_ds.export_packed(model, tmp_path / "packed")
    loaded = xtc_ds.load(tmp_path / "packed").to(DEVICE)
    assert torch.equal(logits(loaded), reference(loaded))
    bound = zip(linears(loaded), triton_products(loaded), strict=True)
    assert any(layer.spec.sparse is not None and products for layer, products in bound)


def test_a_whole_model_is_one_graph_with_the_operators(tmp_path: Path) -> None:
    model = xtc_ds.load(packed_folder(tmp_path / "packed")).to(DEVICE)
    expected = reference(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(logits(compiled), expected)
    fresh = xtc_ds.load(tmp_path / "packed").to(DEVICE)
    program = torch.export.export(fresh, (), kwargs=INPUTS)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("xtc_ds.triton_product.default") == len(linears(model))
    assert torch.equal(program.module()(**INPUTS).logits, expected)


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU here")
@pytest.mark.parametrize("way", ["device_map", "to", "load_into"])
def test_every_way_to_a_gpu_gives_the_same_model(way: str, tmp_path: Path) -> None:
    folder = packed_folder(tmp_path / "packed", calibrate=True, activation_shared={"range_calibration": "static"})
    expected = logits(xtc_ds.load(folder).to(DEVICE))
    if way == "load_into":
        model = xtc_ds.load_into(tiny_model(layers=1, hidden_size=40).to(DEVICE), folder)
    else:
        model = xtc_ds.load(folder, device_map=DEVICE) if way == "device_map" else xtc_ds.load(folder).cuda()
    assert {tensor.device.type for tensor in [*model.parameters(), *model.buffers()]} == {"cuda"}
    assert torch.equal(logits(model), expected)
    model.save_pretrained(tmp_path / "again")  # type: ignore[operator]
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU here")
def test_a_model_with_packed_embeddings_runs_without_waiting(tmp_path: Path) -> None:
    model = tiny_model(layers=1)
    compression = block(2, exclude=HEADS, activation=None)
    xtc_ds.compress(model, xtc_ds.parse_block(compression))
    xtc_ds.export_packed(model.eval(), tmp_path / "packed")
    loaded = xtc_ds.load(tmp_path / "packed", dtype=torch.float16).to(DEVICE)
    ids = torch.arange(5, 10, device=DEVICE)
    with torch.no_grad():
        expected = loaded.bert(ids[None])[0]  # type: ignore[operator]
        torch.cuda.set_sync_debug_mode("error")
        try:
            table = loaded.bert.embeddings.word_embeddings  # type: ignore[union-attr]
            hidden = table(ids)
            for layer in linears(loaded)[:3]:
                layer(hidden)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert expected.isfinite().all()
