"""Models: where their heads live, hooks on them, packed and prefix-sharing forwards, opening them."""
