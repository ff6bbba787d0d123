"""Write a trained classifier for other programs: python export.py run=RUN_ID format=onnx (see --help)."""

# ruff: noqa: E402
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.start import need_packages

need_packages()  # so that `python export.py` works with the system's Python too

import hydra
from omegaconf import DictConfig

from cnnlab.cli import enter, plain_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
def main(config: DictConfig) -> None:
    with plain_errors() as folder:
        from cnnlab.exporting import export  # imports torch: --help must not wait for it

        export(config, folder)


if __name__ == "__main__":
    enter(main)
