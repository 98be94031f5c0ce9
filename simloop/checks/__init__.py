"""Analysis of waiting tasks: who waits for what, and why nothing can go on in a deadlock."""
