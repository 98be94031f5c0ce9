"""Interprocess channels without a file position: pipes, eventfds and timerfds."""
