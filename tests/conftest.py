"""For pytest to find `sizes`: the directory of a conftest is on the path of imports."""
