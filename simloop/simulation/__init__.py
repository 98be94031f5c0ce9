"""Runs in fresh worlds, and the handles by which a test prepares and steers a world."""
