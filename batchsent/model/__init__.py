"""Texts to probabilities: load a model safely, tokenize, batch, run."""
