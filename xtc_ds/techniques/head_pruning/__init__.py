"""Set whole attention heads to zero, in the output projection that joins them."""
