"""Register a trained classifier in MLflow: python register.py run=best dataset=mnist (see --help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.door import open_door

if __name__ == "__main__":
    open_door("register")  # with .venv's Python where this one lacks the packages
