"""``export_to``, the one entry point for all containers."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtc_ds.checkpoint.export_folder import export_folder
from xtc_ds.checkpoint.frozen import freeze
from xtc_ds.distributed import on_rank_zero
from xtc_ds.engines.base import EngineReport, Written, require
from xtc_ds.engines.folder import check_container_target
from xtc_ds.errors import ExportError

__all__ = ["CONTAINERS", "export_to"]


@dataclass(frozen=True)
class _Container:
    """Module and function of a container's writer, and the additional packages that it needs."""

    module: str
    function: str
    packages: tuple[str, ...] = ()


#: name to writer; to add a container, write a module and add a line here
CONTAINERS: dict[str, _Container] = {
    "dense": _Container("dense", "write_dense"),
    "onnx": _Container("onnx_file", "write_onnx", ("onnx", "onnxscript")),
    "openvino": _Container("openvino_file", "write_openvino", ("onnx", "onnxscript", "openvino")),
    "gguf": _Container("gguf_file", "write_gguf", ("gguf",)),
    "bitnet": _Container("bitnet", "write_bitnet"),
    "compressed-tensors": _Container("compressed_tensors", "write_compressed_tensors"),
}


def export_to(
    model: Any,
    folder: str | os.PathLike[str],
    container: str,
    *,
    overwrite: bool = False,
    tokenizer: Any = None,
    **options: Any,
) -> EngineReport:
    """Write ``model`` to ``folder`` as files of ``container``, a name of ``CONTAINERS``.

    model: a frozen model, or a compressed model or its engine, of which a frozen copy is made. It is not changed.
    overwrite: replace a folder that contains files, with everything in it.
    tokenizer: saved beside the model if given; "gguf" also contains its vocabulary.
    options: options of the container: ``sample`` for "onnx" and "openvino" (inputs by name, for models that do not take
        token ids), ``float_dtype`` for "dense", ``pooling`` for "gguf".

    In a distributed run all ranks must call this; rank 0 writes.

    The folder is written atomically. Raises ExportError, with the layer, the reason and a remedy, if the container
    cannot represent the model exactly; also if a package is missing or the folder cannot be written.
    """
    entry = CONTAINERS.get(container)
    if entry is None:
        raise ExportError(f"container: found {container!r}; allowed: {', '.join(CONTAINERS)}")
    require(container, *entry.packages)
    check = functools.partial(check_container_target, overwrite=overwrite)
    check(Path(folder).absolute())
    write: Callable[..., Written] = getattr(importlib.import_module(f"xtc_ds.engines.{entry.module}"), entry.function)
    _check_options(container, write, options)
    if "tokenizer" in inspect.signature(write).parameters:
        options["tokenizer"] = tokenizer
    frozen = freeze(model)

    def run() -> EngineReport:
        with export_folder(Path(folder).absolute(), check) as temporary:
            written = write(frozen, temporary, **options)
            if tokenizer is not None:
                tokenizer.save_pretrained(temporary)
        files = {file.name: file.stat().st_size for file in sorted(Path(folder).iterdir())}
        return EngineReport(Path(folder), container, files, written.differs)

    return on_rank_zero(run)


def _check_options(container: str, write: Callable[..., Written], options: dict[str, Any]) -> None:
    allowed = [name for name in list(inspect.signature(write).parameters)[2:] if name != "tokenizer"]
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise ExportError(f"{container}: options are {', '.join(allowed) or 'none'}; found {', '.join(unknown)}")
