"""What cnnlab costs beside other ways of training the same network: `make bench`, or `python -m benchmarks --help`."""

import os

GIVEN = dict(os.environ)  # before cnnlab sets what its own libraries read
