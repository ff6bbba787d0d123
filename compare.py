"""Is B better than A? python compare.py a="model=mlp" b="model=mlp optimizer.lr=0.01" (see --help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.door import open_door

if __name__ == "__main__":
    open_door("compare")  # with .venv's Python where this one lacks the packages
