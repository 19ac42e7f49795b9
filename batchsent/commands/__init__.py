"""The function behind each command but batch and verify, with its options; prints nothing."""
