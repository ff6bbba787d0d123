"""Train one classifier: python train.py model=deep_cnn dataset=mnist (see --help)."""

import hydra

from cnnlab.door import enter, plain_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config):
    with plain_errors():
        from cnnlab.run import train  # imports torch: --help must not wait for it

        train(config)


if __name__ == "__main__":
    enter(main)
