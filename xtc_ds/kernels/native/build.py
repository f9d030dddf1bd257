"""Compiles the kernel with the system's C compiler, once per version of the source and machine."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from xtc_ds.atomic import whole_file

__all__ = ["CompilerError", "build_library", "cache_folder", "find_compiler"]

_SOURCE_FOLDER = Path(__file__).parent
_MAIN = "xtc_kernels.c"
# Contraction would fuse a product and a sum into one rounding, and results would differ from the reference.
_FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-ffp-contract=off", "-fvisibility=default")
# Tried in this order; without OpenMP the kernel runs on one thread.
_THREADING = (("-fopenmp",), ())
_TIMEOUT_SECONDS = 120


class CompilerError(Exception):
    """There is no C compiler, or compiling failed; the message names the compiler and the reason."""


def build_library() -> Path:
    """Path of the compiled library, from the cache if it was built before. Raises CompilerError."""
    compiler = find_compiler()
    # Read once, so that the compiled source matches the hash in the name even if the files change meanwhile.
    sources = {file.name: file.read_bytes() for file in sorted(_SOURCE_FOLDER.glob("*.[ch]"))}
    target = cache_folder() / f"xtc_kernels-{_fingerprint(compiler, sources)}.so"
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may build at the same time; each moves a complete file into place.
        with tempfile.TemporaryDirectory(prefix="xtc_ds-build-") as folder, whole_file(target) as built:
            for name, content in sources.items():
                (Path(folder) / name).write_bytes(content)
            _compile(compiler, Path(folder) / _MAIN, built)
    except OSError as error:
        raise CompilerError(f"cannot build in {target.parent}: {error}") from error
    return target


def cache_folder() -> Path:
    """Folder of the compiled libraries: ``XTC_DS_CACHE`` if set, else the user's cache folder."""
    if given := os.environ.get("XTC_DS_CACHE"):
        return Path(given)
    return platformdirs.user_cache_path("xtc_ds")


def find_compiler() -> list[str]:
    """The compiler command: ``CC`` if set, else the first of cc, gcc and clang. Raises CompilerError if none exists."""
    if given := os.environ.get("CC"):
        command = shlex.split(given)
        if command and shutil.which(command[0]):
            return command
        raise CompilerError(f"CC names '{given}', which is not there")
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise CompilerError("no C compiler (cc, gcc, clang) is installed")


def _compile(compiler: list[str], main: Path, target: Path) -> None:
    output = ""
    for threading in _THREADING:
        command = [*compiler, *_FLAGS, *threading, str(main), "-o", str(target), "-lm"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise CompilerError(f"{compiler[0]} took more than {_TIMEOUT_SECONDS} s") from None
        if result.returncode == 0:
            return
        output = result.stderr.strip()
    raise CompilerError(f"{compiler[0]} failed: {output[-500:]}")


def _fingerprint(compiler: list[str], sources: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sources.items():
        digest.update(name.encode() + b"\0" + content)
    about = (" ".join(compiler), platform.machine(), platform.system(), *_FLAGS)
    digest.update("\0".join(about).encode())
    return digest.hexdigest()[:16]
