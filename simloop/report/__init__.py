"""Reports on a failing run for a person: trace, explanation, sentences and tables."""
