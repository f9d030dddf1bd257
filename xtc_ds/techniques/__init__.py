"""One package per technique.

``config.py`` of a technique is its typed section of the config block and must be readable without torch; therefore
neither this package nor the ``__init__`` of a technique imports anything. Their names are in ``xtc_ds.extensions``.
"""
