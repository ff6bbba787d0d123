"""Train one classifier: python train.py model=deep_cnn dataset=mnist (see --help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.door import open_door

if __name__ == "__main__":
    open_door("train")  # with .venv's Python where this one lacks the packages
