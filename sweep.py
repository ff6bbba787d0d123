"""Search for the best configuration: python sweep.py model=deep_cnn search=deep_cnn sweep.n_workers=2 (see --help)."""

# ruff: noqa: E402
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
from cnnlab.start import need_packages

need_packages()  # so that `python sweep.py` works with the system's Python too

import hydra
from omegaconf import DictConfig

from cnnlab.cli import enter, plain_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="sweep")
def main(config: DictConfig) -> None:
    with plain_errors() as folder:
        from cnnlab.sweeps.run import sweep  # imports torch: --help must not wait for it

        sweep(config, folder)


if __name__ == "__main__":
    enter(main)
