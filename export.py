"""Write a trained classifier for other programs: python export.py run=RUN_ID format=onnx (see --help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.door import open_door

if __name__ == "__main__":
    open_door("export")  # with .venv's Python where this one lacks the packages
