"""Texts to probabilities: load a model safely, tokenize, batch, run; knows nothing of files or columns."""
