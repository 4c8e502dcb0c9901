"""Google's Agent Development Kit (extra `adk`)."""
