"""One reader a benchmark or format."""
