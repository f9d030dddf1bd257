"""Compression under Hugging Face's Trainer and Accelerate, which call ``deepspeed.initialize`` by themselves.

``install()`` before anything reads the DeepSpeed config is all they need; ``CompressionCallback`` adds what a Trainer's
user wants to see and keep.
"""

from xtc_ds.compat.install import install, uninstall
from xtc_ds.integrations.trainer import CompressionCallback

__all__ = ["CompressionCallback", "install", "uninstall"]
