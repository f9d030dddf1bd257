"""Read tensors of packed files directly into a model's memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from xtc_ds.checkpoint.safetensors_file import DTYPES, StoredHeader, memory_of, read_chunks
from xtc_ds.checkpoint.verify import read_tensor
from xtc_ds.errors import ExportError

__all__ = ["fill"]


def fill(model: nn.Module, headers: Iterable[StoredHeader]) -> None:
    """Set every tensor of ``model`` to its stored value. The files must have been checked against the model before.

    Tensors on the meta device are allocated on the CPU. A tensor is read without a second copy, unless its dtype or
    device changes. Raises ExportError if a tensor that no file holds is on the meta device.
    """
    own = model.state_dict(keep_vars=True)
    for header in headers:
        for name in header.tensors:
            if own[name].is_meta:
                _materialize(model, own[name])
                own = model.state_dict(keep_vars=True)
            _fill_tensor(own[name], header, name)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise ExportError(f"{name} is on the meta device and no file holds it; build the model on the CPU")


def _fill_tensor(target: Tensor, header: StoredHeader, name: str) -> None:
    stored = header.tensors[name]
    with torch.no_grad():
        direct = target.dtype == DTYPES[stored.dtype] and target.device.type == "cpu" and target.is_contiguous()
        if not direct or not stored.bytes:
            target.copy_(read_tensor(header, name))
            return
        memory, place = memory_of(target), 0
        with header.file.open("rb") as stream:
            for piece in read_chunks(stream, stored):
                memory[place : place + len(piece)] = piece
                place += len(piece)
        target.add_(0)  # increments the version counter, so that values cached from the old content are discarded


def _materialize(model: nn.Module, old: Tensor) -> None:
    """Replace a meta tensor by an uninitialized CPU tensor in every module that holds it."""
    empty: Tensor = torch.empty_like(old, device="cpu")
    if isinstance(old, nn.Parameter):
        empty = nn.Parameter(empty, requires_grad=old.requires_grad)
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is old:
                    tensors[key] = empty  # type: ignore[assignment]
