"""Import patches that stand in class folders: `synthdp data patches`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "patches", *sys.argv[1:]]))
