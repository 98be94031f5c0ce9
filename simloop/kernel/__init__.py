"""One simulated host's operating system: clock, scheduler, selector, sockets, threads.

Knows nothing of asyncio, and touches nothing real: a plain script can drive it, which is how the parity
tests compare it with Linux. Whatever may go one way or another is asked of `Choices`.
"""
