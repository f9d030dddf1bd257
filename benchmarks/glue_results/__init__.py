"""GLUE tasks x configs x seeds through the launcher, in one table."""
