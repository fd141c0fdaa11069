"""The IPython kernel that runs cells, the tasks of a fan-out, and the zygote that forks both."""
