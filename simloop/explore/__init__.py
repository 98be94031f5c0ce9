"""Exploration of schedules (choices of the environment): which one to try next, when to stop, and how to shrink and
store a failing one."""

#: Name of the directory that keeps failures and corpora from one session to the next.
DIRECTORY = ".simloop"
