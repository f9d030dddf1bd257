"""Compress a transformer on a text task, end to end: ``deepspeed launcher/train.py --ds_config FILE``.

Fine-tunes a teacher (or takes one), shows the plan, trains the compressed student by distillation, scores
it as it will be shipped, writes the packed checkpoint and reloads it in a fresh process.
"""

from __future__ import annotations

import os
import sys

# Read when torch loads OpenMP: on shared cores, threads that spin while they wait stop the others' work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A report and a progress bar of transformers' own for each load are noise here.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> int:
    """Run and return the exit code: 0, or 1 after one clear message."""
    from xtc_launcher.arguments import parse_arguments

    from xtc_ds.errors import XtcError

    arguments = parse_arguments()
    leader = int(os.environ.get("RANK", "0")) == 0
    try:
        from xtc_launcher.pipeline import run

        run(arguments)
    except XtcError as error:
        if arguments.debug:
            raise
        if leader:
            for line in str(error).splitlines():
                print(f"train.py: error: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if leader:
            print("train.py: interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
