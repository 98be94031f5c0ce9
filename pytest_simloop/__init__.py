"""Pytest plugin of simloop: runs async tests over many simulated worlds.

A test uses it by the marker ``simloop``, the fixture ``sim`` and the options ``--sim*``; this package exports nothing.

PYTEST_DONT_REWRITE
"""

from pytest_simloop.as_written import leave_as_written

leave_as_written("simloop", "pytest_simloop")
