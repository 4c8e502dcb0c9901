"""The actor of one member: its agent, its calls, and how each of them has ended."""
