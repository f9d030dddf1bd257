"""How far the logits of one packed classifier are apart in different engines, on real sentences.

    python -m benchmarks.engine_differences FOLDER SENTENCES [--count 500] [--batch 16]

FOLDER: a packed text classifier with its tokenizer. SENTENCES: text, one to a line; of a table with tabs the column
that is called "sentence", or the first. Rows are compared with the first one, the packed model on one thread: some are
the same model in torch with floats summed in another order, and show what difference that alone makes. llama.cpp is
run where ``llama_cpp`` is installed.
"""

from __future__ import annotations

import csv
import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

import xtc_ds
from benchmarks.common.arguments import argument_parser
from benchmarks.engines.runtimes import onnx_runtime, openvino
from xtc_ds.engines import export_to

Run = Callable[[dict[str, Tensor]], Tensor]
TOKENS = 128


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argument_parser("benchmarks.engine_differences", __doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    texts = read_sentences(arguments.sentences)[: arguments.count]
    options = {"return_tensors": "pt", "padding": True, "truncation": True, "max_length": TOKENS}
    starts = range(0, len(texts), arguments.batch)
    batches = [dict(tokenizer(texts[i : i + arguments.batch], **options)) for i in starts]
    with tempfile.TemporaryDirectory() as scratch:
        model = xtc_ds.load(arguments.folder)
        results = torch_runs(arguments.folder, batches)
        for name, run in exported_runs(model, Path(scratch)):
            results[name] = logits(run, batches)
        if importlib.util.find_spec("llama_cpp") is None:
            print("llama.cpp: llama_cpp is not installed")
        else:
            results["llama.cpp"] = llama_cpp_logits(model, tokenizer, texts, Path(scratch))
    print_table(results, len(texts))


def read_sentences(file: Path) -> list[str]:
    """Lines, or a column of a table with tabs."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if "\t" not in lines[0]:
        return [line for line in lines if line.strip()]
    rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    column = rows[0].index("sentence") if "sentence" in rows[0] else 0
    return [row[column] for row in rows[1:]]


@torch.no_grad()
def logits(run: Run, batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """Of all sentences, (sentences, labels)."""
    return torch.cat([run(batch) for batch in batches])


def torch_runs(folder: Path, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The packed model first, then the same with floats summed in another order."""
    model = xtc_ds.load(folder)

    def run(batch: dict[str, Tensor]) -> Tensor:
        return model(**batch).logits  # type: ignore[no-any-return]

    def one_by_one(batch: dict[str, Tensor]) -> Tensor:
        lengths = batch["attention_mask"].sum(1).tolist()
        return torch.cat(
            [run({key: value[i : i + 1, :n] for key, value in batch.items()}) for i, n in enumerate(lengths)]
        )

    results = {"torch, packed": logits(run, batches)}
    torch.set_num_threads(2)
    results["torch, packed, 2 threads"] = logits(run, batches)
    torch.set_num_threads(1)
    results["torch, packed, no padding"] = logits(one_by_one, batches)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    results["torch, packed, eager attention"] = logits(run, batches)
    model.set_attn_implementation("sdpa")  # type: ignore[operator]
    for runtime in ("unpacked", "fused"):
        xtc_ds.set_runtime(model, runtime)
        results[f"torch, {runtime}"] = logits(run, batches)
    return results


def exported_runs(model: Any, folder: Path) -> Iterable[tuple[str, Run]]:
    """Engines on what is written for them."""
    for name, file, load in (("onnx", "model.onnx", onnx_runtime), ("openvino", "model.xml", openvino)):
        try:
            export_to(model, folder / name, name)
        except xtc_ds.XtcError as error:
            print(f"{name}: {error}")
            continue
        engine = load(folder / name / file, 1)
        names = engine_inputs(folder / name / file)

        def run(batch: dict[str, Tensor], engine: Any = engine, names: set[str] = names) -> Tensor:
            return torch.from_numpy(engine({key: value.numpy() for key, value in batch.items() if key in names}))

        yield name, run


def engine_inputs(file: Path) -> set[str]:
    """Names of the inputs that an exported model takes."""
    if file.suffix == ".onnx":
        import onnx

        return {value.name for value in onnx.load(file).graph.input}
    import openvino as ov

    return {value.any_name for value in ov.Core().read_model(file).inputs}


def llama_cpp_logits(model: Any, tokenizer: Any, texts: list[str], folder: Path) -> Tensor:
    """Of llama.cpp, which reads the text itself."""
    from llama_cpp import Llama

    export_to(model, folder / "gguf", "gguf", tokenizer=tokenizer)
    engine = Llama(str(folder / "gguf" / "model.gguf"), embedding=True, n_ctx=512, n_threads=1, verbose=False)
    same = sum(engine.tokenize(text.encode()) == tokenizer(text)["input_ids"] for text in texts)
    print(f"llama.cpp: the same tokens for {same} of {len(texts)} sentences")
    # The package hands over more values than a classifier has labels.
    rows = [engine.create_embedding(text)["data"][0]["embedding"][: model.config.num_labels] for text in texts]
    return torch.tensor(rows)


def print_table(results: dict[str, Tensor], count: int) -> None:
    """Differences from the first row."""
    first = next(iter(results.values()))
    print(f"{count} sentences; logits from {first.min():.2f} to {first.max():.2f}\n")
    print(f"{'':32} {'largest':>9} {'mean':>9} {'within 1e-3':>12} {'same label':>11}")
    for name, found in list(results.items())[1:]:
        apart = (found - first).abs()
        close = (apart.amax(1) <= 1e-3).float().mean()
        label = (found.argmax(1) == first.argmax(1)).float().mean()
        print(f"{name:32} {apart.max():9.1e} {apart.mean():9.1e} {100 * close:10.1f} % {100 * label:9.2f} %")


if __name__ == "__main__":
    main()
