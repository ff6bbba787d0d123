"""cnnlab: train, track, sweep and evaluate small image classifiers."""

import os

# Read by OpenMP when torch is first loaded. Threads that spin while they wait keep each other waiting: beside another
# busy process on two cores an epoch took 6 to 40 s that takes 2 s when they sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
