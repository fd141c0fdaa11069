"""The programs, one module a family; each lists its `PROGRAMS`."""
