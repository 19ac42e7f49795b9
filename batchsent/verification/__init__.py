"""Proof that an output is its input with scores beside it: the row contract, tested."""
