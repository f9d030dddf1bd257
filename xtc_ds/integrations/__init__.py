"""Compression with Hugging Face's Trainer and Accelerate, both of which call ``deepspeed.initialize`` internally.

They only need ``install()`` to be called before anything reads the DeepSpeed config. ``CompressionCallback`` adds
logging and the export of the packed model to a Trainer.
"""

from xtc_ds.compat.install import install, uninstall
from xtc_ds.integrations.trainer import CompressionCallback

__all__ = ["CompressionCallback", "install", "uninstall"]
