"""Choices of the environment: the single source of nondeterminism, schedules, tokens and random draws."""
