"""`python -m batchsent` is `batchsent`."""

from batchsent.cli import main

if __name__ == "__main__":
    main()
