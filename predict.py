"""Ask a trained classifier about images: python predict.py run=RUN_ID image=shirt.png (see --help)."""

# ruff: noqa: E402
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.start import need_packages

need_packages()  # so that `python predict.py` works with the system's Python too

import hydra
from omegaconf import DictConfig

from cnnlab.cli import enter, plain_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="predict")
def main(config: DictConfig) -> None:
    with plain_errors() as folder:
        from cnnlab.prediction import predict  # imports torch: --help must not wait for it

        predict(config, folder)


if __name__ == "__main__":
    enter(main)
