"""Exploration: which schedule to try next, when to stop, and how to shrink and keep a failing one."""
