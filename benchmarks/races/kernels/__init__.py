"""Races as plain asyncio programs that need nothing but the standard library, each beside its mended version.

All of them are in `KERNELS`.
"""

from kernels import channels, network, threads, vendored
from kernels.registry import KERNELS, Kernel, named

__all__ = ["KERNELS", "Kernel", "channels", "named", "network", "threads", "vendored"]
