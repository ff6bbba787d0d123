"""Measure a trained classifier: python evaluate.py run=RUN_ID split=test (see --help)."""

import hydra
from omegaconf import DictConfig

from cnnlab.cli import enter, plain_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(config: DictConfig) -> None:
    with plain_errors() as folder:
        from cnnlab.evaluate import evaluate  # imports torch: --help must not wait for it

        evaluate(config, folder)


if __name__ == "__main__":
    enter(main)
