"""The event loop of a simulated process: stock asyncio over the simulated selector."""
