"""The Python names of DeepSpeed's removed compression library, for scripts that must not be changed.

``xtc_ds.compat.deepspeed`` holds the functions and ``install``; ``python -m xtc_ds.compat script.py`` runs a script
after ``install()``. Only ``integrations`` imports anything from here.
"""
