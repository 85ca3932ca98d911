"""Join trained generators into one: `synthdp mix-generators`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["mix-generators", *sys.argv[1:]]))
