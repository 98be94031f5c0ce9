"""Strategies: how the next schedule to try is picked, one file each."""
