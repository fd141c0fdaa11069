"""What a machine does for the cold tier of its spaces besides copying: it says that it is there, and frees garbage."""
