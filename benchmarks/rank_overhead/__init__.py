"""What compression adds to a step by number of ranks and ZeRO stage."""
