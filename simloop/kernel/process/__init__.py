"""Processes of a host: their states, signals, threads and exits."""
