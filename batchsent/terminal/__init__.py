"""What a person sees at a terminal, or finds in a log: reporters, summaries, tables."""
