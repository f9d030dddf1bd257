"""``deepspeed --module xtc_ds.launcher ...``, the equivalent of ``deepspeed launcher/train.py ...`` in a checkout."""

from xtc_ds.launcher.train import run_and_exit

if __name__ == "__main__":
    run_and_exit(prog="xtc-ds train")
