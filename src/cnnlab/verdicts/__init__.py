"""Two settings compared: pairs of trainings, a sequential test of their differences, and the images that flipped."""
