"""Attack a finished private run and report how far one came: `synthdp audit`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["audit", *sys.argv[1:]]))
