"""Seconds of training until a compressed student reaches a score."""
