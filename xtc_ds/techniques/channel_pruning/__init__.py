"""Set whole output channels of a convolution to zero."""
