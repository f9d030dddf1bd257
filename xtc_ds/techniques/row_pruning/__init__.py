"""Whole outputs of a layer become zero, and go if what reads them shrinks along."""
