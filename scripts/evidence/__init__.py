"""The tables of the page Evidence that reports do not have, each from files under results/."""
