"""The Python names of DeepSpeed's removed compression library, for scripts that must not change.

``xtc_ds.compat.deepspeed`` holds the functions and ``install``; ``python -m xtc_ds.compat script.py`` runs a script
under it. Nothing here is loaded by the rest of the project.
"""
