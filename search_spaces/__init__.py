"""WHAT is swept."""
