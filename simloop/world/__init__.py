"""One simulated world, and which one the calling thread is in."""
