"""Sizes on disk of BERT-base under the shipped configs."""
