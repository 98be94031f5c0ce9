"""The pytest plugin of simloop: runs async tests over many simulated worlds.

Everything a test needs is the marker ``simloop``, the fixture ``sim`` and the options ``--sim*``; this
package exports nothing else.

PYTEST_DONT_REWRITE
"""

from pytest_simloop.as_written import leave_as_written

leave_as_written("simloop", "pytest_simloop")
