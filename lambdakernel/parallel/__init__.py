"""Fan-out of a cell over workers."""
