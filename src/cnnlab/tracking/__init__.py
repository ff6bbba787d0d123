"""What MLflow remembers of a run."""

import os

# Set before MLflow is imported anywhere: nobody asked to be counted.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
