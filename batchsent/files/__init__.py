"""Files and folders that appear whole or not at all; hashes, the lock of an output, signals."""
