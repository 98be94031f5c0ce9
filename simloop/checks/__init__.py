"""Analysis of waiting tasks, for errors and reports: what each task waits for, and which task holds that."""
