"""`python -m instruction_vectors.cli` is `iv`."""

import sys

from instruction_vectors.cli import main

if __name__ == "__main__":
    sys.exit(main())
