"""Distillation as a technique; the losses are defined and computed in ``xtc_ds.distillation``."""
