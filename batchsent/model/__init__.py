"""Texts to probabilities: load a model safely, tokenize, batch, run.

Knows nothing of files or columns.
"""
