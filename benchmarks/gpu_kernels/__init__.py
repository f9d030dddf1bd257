"""Times of the Triton kernels on a GPU."""
