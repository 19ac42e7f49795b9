"""What is printed at a terminal or into a log: reporters, summaries, tables."""
