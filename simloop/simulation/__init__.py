"""Runs in fresh worlds (simulated machines with a network), and the handles by which a test prepares and steers a
world."""
