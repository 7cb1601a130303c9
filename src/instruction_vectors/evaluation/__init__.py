"""Measuring: scores of answers, abilities, statistics."""
