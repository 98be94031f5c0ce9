"""Reports on a failing run, in words: its trace, its explanation, and the sentences and tables that tell them."""
