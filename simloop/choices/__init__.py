"""Choices of the environment: the single source of nondeterminism; with schedules, tokens and random draws.

Whatever the environment may decide is asked at a *choice point*; the answer 0 is the default, any other a *deviation*,
and a run without deviations is the *canonical run*. An *arrival* is an event that reaches an event loop from outside (a
packet, the end of a thread's job, a signal); its *source* is a connection, thread or process. To *fold* something is to
hash it into a fingerprint.
"""
