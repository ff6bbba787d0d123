"""What differs between two runs: python diff.py RUN_ID last (see --help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.door import open_door

if __name__ == "__main__":
    open_door("diff")  # with .venv's Python where this one lacks the packages
