"""Interprocess communication without a file position: pipes, eventfds and timerfds."""
