"""One competitor: trains from the teacher's weights and prints seconds and dev accuracy."""

from __future__ import annotations

import json
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

__all__: list[str] = []


def main(task: dict[str, Any]) -> None:
    """Train until the target score, the time or the steps are reached; a JSON line per evaluation."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr
    import torch
    from transformers import AutoModelForSequenceClassification as Auto

    from benchmarks.train_step.cases import Case, compress_here

    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    case = Case(task["case"])
    model, teacher = (Auto.from_pretrained(task["teacher"], dtype=torch.float32) for _ in range(2))
    data = json.loads(Path(task["data"]).read_text())

    def own_loss(batch: dict[str, Any]) -> Any:
        return model(**batch).loss

    forward = own_loss
    if case.method == "deepspeed":
        from benchmarks.train_step.rivals import compress_with_deepspeed, distil_by_outputs

        compress_with_deepspeed(model, task["bits"])
        forward = distil_by_outputs(model, teacher, layers=True)
    elif case.method != "plain":
        compress_here(model, case, teacher)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task["rate"], fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / task["steps"])
    spent, half = 0.0, case.has("bf16")
    for step in range(task["steps"] + 1):
        if step % task["every"] == 0 or step == task["steps"]:
            score = _accuracy(model, data["dev"])
            answers.write(json.dumps({"step": step, "seconds": spent, "accuracy": score}) + "\n")
            answers.flush()
            if score >= task["target"] or spent >= task["budget"] or step == task["steps"]:
                return
        began = time.perf_counter()
        model.train()
        rows = data["batches"][step % len(data["batches"])]
        batch = _batch([data["train"][row] for row in rows], task["pad_to"])
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            loss = forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        spent += time.perf_counter() - began


def _batch(rows: list[dict[str, Any]], width: int | None) -> dict[str, Any]:
    import torch

    wide = width or max(len(row["input_ids"]) for row in rows)
    batch = {
        name: torch.tensor([row[name] + [0] * (wide - len(row[name])) for row in rows])
        for name in ("input_ids", "token_type_ids")
    }
    batch["attention_mask"] = torch.tensor([[1] * n + [0] * (wide - n) for n in (len(r["input_ids"]) for r in rows)])
    batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


def _accuracy(model: Any, dev: list[dict[str, Any]]) -> float:
    """Of the dev set; its seconds do not count for any competitor."""
    import torch

    model.eval()
    right = 0
    with torch.no_grad():
        for first in range(0, len(dev), 64):
            batch = _batch(dev[first : first + 64], None)
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(dev)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
