"""State what runs, sets and studies promise, or release them: `synthdp privacy`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["privacy", *sys.argv[1:]]))
