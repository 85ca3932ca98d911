"""Draw phantoms, data without patients: `synthdp data phantoms`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "phantoms", *sys.argv[1:]]))
