"""What MLflow remembers of a run."""
