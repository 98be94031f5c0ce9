"""Socket layer of one host, as Linux shows it to a program."""
