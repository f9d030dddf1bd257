"""A technique that the package does not know: a weight becomes the product of two small factors."""
