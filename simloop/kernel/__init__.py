"""Operating system of one simulated host: clock, scheduler, epoll, sockets, pipes, files, processes, signals, threads.

Knows nothing of asyncio: a plain script can drive it, which is how the parity tests compare it with Linux. Of the real
machine it uses threads, which it runs one at a time, and files, which it only reads. Every nondeterministic
decision is asked of `Choices`.
"""
