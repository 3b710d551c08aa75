"""`python -m reasondistill` is the `reasondistill` command."""

from reasondistill.cli import main

if __name__ == "__main__":
    main()
