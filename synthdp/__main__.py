"""`python -m synthdp`, and so `torchrun --nproc-per-node N -m synthdp`: the command line."""

import sys

from synthdp.cli import main

if __name__ == "__main__":
    sys.exit(main())
