"""`python -m attnzoo.cli`, for where the console script is not on the path."""

import sys

from attnzoo.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
