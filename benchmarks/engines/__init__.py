"""Sizes and times of one packed model in stock engines."""
