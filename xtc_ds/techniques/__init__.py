"""One folder per technique, with all that belongs to it.

``config.py`` is its typed piece of the block and is read without torch; so neither this package nor the ``__init__``
of a technique imports anything. ``xtc_ds.extensions`` has the list of their names.
"""
