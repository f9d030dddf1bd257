"""A cache of the teacher's logits on disk, one row per example, so that later epochs can skip the teacher.

An example is identified by a hash of its unpadded tokens, a teacher by a hash of its weights. Each rank writes its own
files and reads those of all ranks; files are written atomically.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xtc_ds.atomic import whole_file
from xtc_ds.errors import DistillationError

__all__ = ["LogitsCache", "example_keys", "teacher_fingerprint"]

logger = logging.getLogger(__name__)

_KEY_BYTES = 16
_ROWS_PER_FILE = 256
_ENDING = ".safetensors"


class LogitsCache:
    """Logits (examples, labels) of one teacher in a folder that several processes and runs may share.

    Logits that were not written before a process ended are computed again later.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._fingerprint = ""
        self._rows: dict[bytes, Tensor] = {}
        self._pending: list[bytes] = []
        self._read: set[str] = set()

    def get(self, keys: list[bytes], teacher: nn.Module) -> Tensor | None:
        """float32 logits (len(keys), labels) if all are known, else None."""
        if not self._fingerprint:
            self._open(teacher)
        if not all(key in self._rows for key in keys):
            self._read_new_files()  # another rank may have written them
        if not all(key in self._rows for key in keys):
            return None
        self.flush()  # all logits of the batch are known: an epoch is over
        return torch.stack([self._rows[key] for key in keys])

    def put(self, keys: list[bytes], logits: Tensor) -> None:
        """Store the teacher's logits (len(keys), labels)."""
        for key, row in zip(keys, logits.detach().float().cpu(), strict=True):
            if key not in self._rows:
                self._rows[key] = row.clone()
                self._pending.append(key)
        if len(self._pending) >= _ROWS_PER_FILE:
            self.flush()

    def flush(self) -> None:
        """Write logits that are not on disk yet. Raises DistillationError if the folder cannot be written."""
        if not self._pending:
            return
        keys = torch.frombuffer(bytearray(b"".join(self._pending)), dtype=torch.uint8).view(-1, _KEY_BYTES)
        logits = torch.stack([self._rows[key] for key in self._pending])
        name = f"{uuid.uuid4().hex}{_ENDING}"
        about = {"teacher": self._fingerprint, "checksum": _checksum(keys, logits)}
        try:
            with whole_file(self._home / name) as temporary:
                save_file({"keys": keys, "logits": logits}, temporary, about)
        except (OSError, SafetensorError) as error:
            raise DistillationError(f"cache_folder {self.folder} cannot be written: {error}") from error
        self._read.add(name)
        self._pending = []

    @property
    def _home(self) -> Path:
        return self.folder / self._fingerprint

    def _open(self, teacher: nn.Module) -> None:
        self._fingerprint = teacher_fingerprint(teacher)
        try:
            others = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
            if others and self._fingerprint not in others:
                logger.warning("the logits in %s are of another teacher; they are not used", self.folder)
            self._home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DistillationError(f"cache_folder {self.folder} cannot be used: {error.strerror}") from error

    def _read_new_files(self) -> None:
        for path in sorted(self._home.glob(f"*{_ENDING}")):
            if path.name not in self._read:
                self._read.add(path.name)
                self._read_file(path)

    def _read_file(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                keys, logits = file.get_tensor("keys"), file.get_tensor("logits")
            whole = about.get("teacher") == self._fingerprint and about.get("checksum") == _checksum(keys, logits)
        except (OSError, SafetensorError):
            whole = False
        if not whole:
            logger.warning("%s holds no logits of this teacher or is damaged; they are computed again", path)
            path.unlink(missing_ok=True)
            return
        raw = keys.numpy().tobytes()
        for row, values in enumerate(logits):
            self._rows.setdefault(raw[row * _KEY_BYTES : (row + 1) * _KEY_BYTES], values)


def example_keys(inputs: Mapping[str, Any]) -> list[bytes]:
    """16 bytes per example: a hash of its tokens and of all other inputs per token, without padding.

    Raises DistillationError for inputs that are not (examples, tokens).
    """
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    mask = tensors.pop("attention_mask", None)
    ids = tensors.get("input_ids")
    wrong = [name for name, value in tensors.items() if ids is None or value.shape != ids.shape]
    if ids is None or ids.ndim != 2 or wrong or (mask is not None and mask.shape != ids.shape):
        what = f"; {', '.join(wrong)} has another shape" if wrong else ""
        raise DistillationError(f'"cache": "logits" needs input_ids of (examples, tokens){what}; set "cache": "none"')
    keep = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    keep, columns = keep.cpu(), {name: value.cpu() for name, value in sorted(tensors.items())}
    return [_hash(_parts(columns, row, keep[row])) for row in range(len(ids))]


def _parts(columns: Mapping[str, Tensor], row: int, keep_L: Tensor) -> Iterable[bytes]:
    for name, values_BL in columns.items():
        yield name.encode()
        yield values_BL[row][keep_L].to(torch.int64).numpy().tobytes()


def teacher_fingerprint(teacher: nn.Module) -> str:
    """32 hex digits that change with any weight of the teacher, its dtypes or its class."""
    digest = hashlib.blake2b(type(teacher).__name__.encode(), digest_size=_KEY_BYTES)
    for name, tensor in sorted(teacher.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def _hash(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _checksum(keys: Tensor, logits: Tensor) -> str:
    return _hash([keys.numpy().tobytes(), logits.contiguous().numpy().tobytes()]).hex()
