"""``installed_files.py SOURCES ENVIRONMENT``: every file of the package must be in the environment's installed one."""

import sys
from pathlib import Path

import xtc_ds

sources, environment = (Path(argument).resolve() for argument in sys.argv[1:])
package = Path(xtc_ds.__file__).resolve().parent
assert package.is_relative_to(environment), f"xtc_ds was imported from {package}"
files = [file.relative_to(sources / "xtc_ds") for file in (sources / "xtc_ds").rglob("*") if file.is_file()]
assert len(files) > 100, f"{sources} holds only {len(files)} files"
missing = [str(file) for file in files if not (package / file).is_file()]
assert not missing, f"not in the wheel: {', '.join(missing)}"
print(f"{len(files)} files, schema, C sources and py.typed among them, are in the wheel")
for name in ("config/schema.json", "py.typed"):
    assert (package / name).is_file(), name
assert list(package.glob("kernels/native/*.c")) and list(package.glob("kernels/native/*.h"))
