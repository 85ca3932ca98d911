"""Pack a finished generator as float16: python scripts/package_generator.py RUN NAME."""

import argparse
from pathlib import Path

from gan.pretrained import FOLDER, package_generator

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help="what follows `pretrained:`")
    arguments = parser.parse_args()
    print(package_generator(arguments.run, FOLDER / arguments.name))
