"""Iterate over all tensors of a model's state dict."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

__all__ = ["iterate_tensors"]


def iterate_tensors(modules: dict[str, nn.Module]) -> Iterator[tuple[str, str, Tensor, bool]]:
    """(module name, tensor name, tensor, is parameter) for every state dict entry; shared tensors are repeated."""
    for name, module in modules.items():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                yield name, key, parameter, True
        for key, buffer in module._buffers.items():
            if buffer is not None and key not in module._non_persistent_buffers_set:
                yield name, key, buffer, False
