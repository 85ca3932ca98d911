"""Train the conditional generator: `synthdp train-gan`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["train-gan", *sys.argv[1:]]))
