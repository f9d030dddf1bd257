"""Whole attention heads become zero, on the matrix that joins them."""
