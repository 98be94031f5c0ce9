"""Pipes, eventfds and timerfds: descriptors that data pass through, without a position."""
