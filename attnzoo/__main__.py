"""`python -m attnzoo`: the command line."""

from attnzoo.cli import main

if __name__ == "__main__":
    main()
