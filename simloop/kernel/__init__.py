"""Operating system of one simulated host: clock, scheduler, epoll, sockets, pipes, files, processes, signals, threads.

Knows nothing of asyncio: a plain script can drive it, which is how the parity tests compare it with Linux. It uses real
threads, of which it lets one run at a time, and reads real files, but never writes them. Every nondeterministic
decision is made by `Choices`.
"""
