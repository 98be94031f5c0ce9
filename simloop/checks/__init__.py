"""Checks of a run beside its outcome: who waits for what, and why nothing can go on."""
