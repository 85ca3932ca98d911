"""Write a generator as a package that the medigan library runs: `synthdp export`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
