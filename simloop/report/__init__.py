"""Reports: explain a failing run to a person."""
