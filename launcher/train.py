"""Compress a transformer on a text task, end to end: ``deepspeed launcher/train.py --ds_config FILE``.

Without the ``deepspeed`` runner (``python launcher/train.py ...``) it is a run of one process. From an installed
package the same program is ``xtc-ds train`` or ``deepspeed --module xtc_ds.launcher``.
"""

from xtc_ds.launcher.train import run_and_exit

if __name__ == "__main__":
    run_and_exit()
