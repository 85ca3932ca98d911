"""Write the report of a study again: `synthdp report`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
