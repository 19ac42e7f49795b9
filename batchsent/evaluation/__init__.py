"""Numbers about texts that were scored: counts, metrics, the summary; reads no model and no input file."""
