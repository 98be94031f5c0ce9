"""Choices of the environment: the single source of nondeterminism, schedules, tokens and random draws.

Whatever the environment may decide is asked at a *choice point*; 0 is the default, any other answer a *deviation*, and
the *canonical run* has none. An *arrival* is what reaches an event loop from outside (a packet, the end of a thread's
job, a signal); its *source* is a connection, thread or process. To *fold* something is to hash it into a fingerprint.
"""
