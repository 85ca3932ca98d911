"""Pack a finished generator: python scripts/package_generator.py RUN NAME.

Its weights become float16; of a bank of phantoms stays which ones they are.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from gan.package.description import BankShape, read_description
from gan.package.packing import package_generator
from gan.package.pretrained import FOLDER
from synthdp.releases.release import Asked, release

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/package_generator.py runs/gan mcgan-cbis",
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help="what follows `pretrained:`")
    arguments = parser.parse_args()
    is_bank = isinstance(read_description(arguments.run).shape, BankShape)
    asked = Asked(without_protection=True, compact=is_bank)
    with TemporaryDirectory() as scratch:
        release(arguments.run, Path(scratch) / "run", asked)
        print(package_generator(Path(scratch) / "run", FOLDER / arguments.name))
