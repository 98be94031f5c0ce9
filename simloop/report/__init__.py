"""Reports: a failing run told to a person."""
