"""Executors start invocations somewhere and bring their outcomes back."""
