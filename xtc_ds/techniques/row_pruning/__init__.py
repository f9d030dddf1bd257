"""Whole outputs of a layer become zero, and are cut off where the layers that read them shrink along."""
