"""Pack a finished generator as float16: python scripts/package_generator.py RUN NAME."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

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
    with TemporaryDirectory() as scratch:
        release(arguments.run, Path(scratch) / "run", Asked(without_protection=True))
        print(package_generator(Path(scratch) / "run", FOLDER / arguments.name))
