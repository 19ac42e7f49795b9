"""Files and folders that appear whole or not at all.

Their hashes, the lock of an output, signals.
"""
