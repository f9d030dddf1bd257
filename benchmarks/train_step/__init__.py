"""Step time and memory of training, here and with other libraries."""
