"""A scoring run that survives: commit, resume, lock, signals."""
