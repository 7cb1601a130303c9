"""Signs of typeset tables."""

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
