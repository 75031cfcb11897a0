"""`python -m attnzoo`: the command line."""

import sys

from attnzoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
