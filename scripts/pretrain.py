"""Pretrain the transformer on synthetic or phantom patches: `synthdp pretrain`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
