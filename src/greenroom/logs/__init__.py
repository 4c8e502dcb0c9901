"""The log: which events become lines, how these look, who writes them."""
