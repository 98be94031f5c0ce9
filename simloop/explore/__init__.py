"""Exploration of schedules: which one to try next, when to stop, and how to shrink and keep a failing one."""

#: Name of the directory of what is kept from one session to the next.
DIRECTORY = ".simloop"
