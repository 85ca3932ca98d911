"""Fine-tune with differential privacy, or without: `synthdp finetune`.

See --help for an example.
"""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
