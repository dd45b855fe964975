"""`python -m stormwatch` is the command `stormwatch`, where that is not on the PATH."""

from stormwatch.harness.cli import main

if __name__ == "__main__":
    main()
