"""Imported last by a process that others are forked from: no child looks through what is there for
garbage, which would copy it.
"""

import gc

gc.collect()
gc.freeze()
