"""The pictures of a run: PNG files anyone can read at a glance."""
