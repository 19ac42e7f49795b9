"""Numbers about texts that were scored: counts, metrics, the summary."""
