"""Judge a synthetic set against a real one: `synthdp assess`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["assess", *sys.argv[1:]]))
