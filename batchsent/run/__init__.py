"""A scoring run: plan, read, score, keep parts, write, commit, resume; folders of dumps."""
