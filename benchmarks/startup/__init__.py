"""Seconds from a config to a rewritten model."""
