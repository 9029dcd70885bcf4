"""Side-by-side measurements of speed, with their recorded results."""
