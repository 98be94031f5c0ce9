"""The patch by which unmodified Python reaches the simulated kernel.

Every shim is a thin translation: it asks `active.world()` whether the calling thread is inside a world,
and goes to the kernel if so and to the real function if not. Behaviour belongs into `kernel`, not here.
"""
