"""Search for the best configuration: python sweep.py model=deep_cnn search=deep_cnn sweep.n_workers=2 (see --help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.door import open_door

if __name__ == "__main__":
    open_door("sweep")  # with .venv's Python where this one lacks the packages
