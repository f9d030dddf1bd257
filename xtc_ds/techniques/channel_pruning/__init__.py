"""Whole output channels of a convolution become zero."""
