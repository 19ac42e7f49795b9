"""`batchsent` and `python -m batchsent`: the first thing that runs, before any import."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while its modules load ends it with 130 too."""
    try:
        from batchsent.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
