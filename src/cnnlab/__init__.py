"""cnnlab: train, track, sweep and evaluate small image classifiers."""

__version__ = "0.1.0"
