"""Numbers about texts that were scored: counts, metrics, the summary.

Reads no model and no input file.
"""
