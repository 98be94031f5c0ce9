"""For pytest to find `sizes` and `fakes`: the directory of a conftest is on the path of imports."""
