"""Files and folders that appear whole or not at all; their hashes, the lock of an output, signals."""
