"""What Jupyter starts: it answers for the kernel, forwards frames to workers, and outlives every one of them."""
