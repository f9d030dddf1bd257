"""Step time and memory that the engine and each technique add to plain DeepSpeed."""
