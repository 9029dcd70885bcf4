"""WHAT it means."""
