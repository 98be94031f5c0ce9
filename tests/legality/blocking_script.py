"""Program that runs one of `blocking_scripts`: imported, they are compiled once and not at each start."""

import sys

from blocking_scripts import SCRIPTS

if __name__ == "__main__":
    sys.exit(SCRIPTS[sys.argv[1]](*sys.argv[2:]))
