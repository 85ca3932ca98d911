"""Compare privacy with utility over strategies, epsilons and seeds: `synthdp study`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["study", *sys.argv[1:]]))
