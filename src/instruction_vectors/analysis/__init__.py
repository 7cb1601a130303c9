"""What happened to a model, and what a vector does to it."""
