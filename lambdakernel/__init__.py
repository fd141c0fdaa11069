"""A Jupyter kernel whose cells run on serverless workers and whose variables outlive every process."""

__version__ = "0.1.0"
