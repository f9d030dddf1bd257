"""Distillation as a technique; ``xtc_ds.distillation`` has the losses and computes them."""
