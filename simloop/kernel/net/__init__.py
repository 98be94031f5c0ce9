"""Sockets of one host, as Linux shows them to a program."""
