"""Places for bytes. A tier moves bytes and knows nothing of lattices."""
