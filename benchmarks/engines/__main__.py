"""Files for stock engines of one BERT-shaped model: sizes, times and how far logits are from the frozen model's.

    python -m benchmarks.engines [--layers 12] [--bits 1] [--threads 1] [--rounds 9] [--batch 1 16]

The weights are random: sizes and times do not depend on them. Engines take turns in every round.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BertForSequenceClassification

import xtc_ds
from benchmarks.common.arguments import argument_parser
from benchmarks.common.bert import bert_config
from benchmarks.engines.runtimes import onnx_runtime, openvino
from xtc_ds.compression_state import update_state
from xtc_ds.engines import export_to

TOKENS = 128


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argument_parser("benchmarks.engines", __doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768, help="width of the model; default: 768")
    parser.add_argument("--bits", type=int, default=1, help="of linear layers and word embeddings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    model = frozen_bert(arguments.layers, arguments.bits, arguments.hidden)
    with tempfile.TemporaryDirectory() as scratch:
        engines = export_all(model, Path(scratch), arguments.threads)
        for size in arguments.batch:
            compare(model, engines, size, arguments.rounds)


def frozen_bert(layers: int, bits: int, hidden: int) -> Any:
    """A frozen BERT whose position and type embeddings and classifier are float16."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(bert_config(layers, hidden)).eval()
    weights = {
        "params": {"start_bits": bits, "target_bits": bits},
        "modules": ["attention", "dense", "word_embeddings"],
    }
    inputs = {"params": {"bits": 8}, "modules": ["attention", "dense"]}
    shared = {"enabled": True, "schedule_offset": 0}
    weight_quantization = {
        "shared_parameters": {**shared, "quantize_weight_in_forward": True},
        "different_groups": {"all": weights},
    }
    activation_quantization = {
        "shared_parameters": {**shared, "range_calibration": "dynamic"},
        "different_groups": {"all": inputs},
    }
    block = {
        "weight_quantization": weight_quantization,
        "activation_quantization": activation_quantization,
        "export": {"float_dtype": "float16"},
    }
    xtc_ds.compress(model, {"train_micro_batch_size_per_gpu": 1, "compression_training": block})
    return xtc_ds.freeze(model)


def export_all(model: Any, folder: Path, threads: int) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Write every container and print its size; the engines that run what was written."""
    packed = xtc_ds.export_packed(model, folder / "packed").file_bytes
    print(f"{'container':20} {'MB':>8} {'of packed':>10}\n{'packed':20} {packed / 1e6:8.1f} {1:10.2f}")
    for container in ("onnx", "openvino", "gguf", "bitnet", "compressed-tensors", "dense"):
        try:
            size = export_to(model, folder / container, container).file_bytes
        except xtc_ds.XtcError as error:
            print(f"{container:20} {error}")
            continue
        print(f"{container:20} {size / 1e6:8.1f} {size / packed:10.2f}")
    return {
        "onnx": onnx_runtime(folder / "onnx" / "model.onnx", threads),
        "onnx int8": dynamic_int8(folder / "onnx float", threads, model.config),
        "openvino": openvino(folder / "openvino" / "model.xml", threads),
        "onnx float": onnx_runtime(folder / "onnx float" / "model.onnx", threads),
        "openvino float": openvino(folder / "onnx float" / "model.onnx", threads),
    }


def dynamic_int8(folder: Path, threads: int, config: Any) -> Callable[[dict[str, Any]], Any]:
    """ONNX Runtime's own dynamic quantization of the float model, which is written beside it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = BertForSequenceClassification(bert_config(config.num_hidden_layers, config.hidden_size)).eval()
    # A model without packed layers is exported as it is.
    update_state(plain, frozen=True, float_dtype="float32")
    export_to(plain, folder, "onnx")
    quantize_dynamic(folder / "model.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
    return onnx_runtime(folder / "int8.onnx", threads)


def compare(model: Any, engines: dict[str, Callable[[dict[str, Any]], Any]], batch: int, rounds: int) -> None:
    """Medians of interleaved rounds, and the largest difference of a logit."""
    ids = torch.randint(0, model.config.vocab_size, (batch, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        expected = model(**inputs).logits
    arrays = {name: value.numpy() for name, value in inputs.items()}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds + 1):
        for name, run in engines.items():
            start = time.perf_counter()
            run(arrays)
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
    print(
        f"\nbatch {batch} x {TOKENS} tokens\n{'engine':20} {'median ms':>10} {'fastest':>10} {'logits differ by':>18}"
    )
    for name, run in engines.items():
        ours = name in ("onnx", "openvino")
        differs = f"{(torch.from_numpy(run(arrays)) - expected).abs().max():18.1e}" if ours else ""
        print(f"{name:20} {statistics.median(times[name]):10.1f} {min(times[name]):10.1f} {differs}")


if __name__ == "__main__":
    main()
