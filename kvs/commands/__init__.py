"""What `python -m kvs` does: one module a task, one function a command, each giving its exit code."""
