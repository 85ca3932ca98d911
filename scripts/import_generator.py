"""Import a checkpoint of the paper's DCGAN: `synthdp import-generator`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["import-generator", *sys.argv[1:]]))
