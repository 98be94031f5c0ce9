"""Simulated pipes, eventfds and timerfds: descriptors that are no files, and cannot seek."""
