"""``python -m xtc_ds.compat script.py ...``: run an unchanged script after ``install()``."""

from __future__ import annotations

import sys

from xtc_ds.compat.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
