"""Processes of a host: their life, signals, threads and ends."""
