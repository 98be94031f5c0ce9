"""Simulated world of one run, and the record of which world the calling thread is in."""
