"""`python -m labctl` is labctl."""

import sys

from labctl.cli import main

if __name__ == "__main__":
    sys.exit(main())
