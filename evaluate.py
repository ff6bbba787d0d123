"""Measure a trained classifier: python evaluate.py run=RUN_ID split=test (see --help)."""

import hydra

from cnnlab.door import enter, plain_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(config):
    with plain_errors():
        from cnnlab.evaluation import evaluate  # imports torch: --help must not wait for it

        evaluate(config)


if __name__ == "__main__":
    enter(main)
