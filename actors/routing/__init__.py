"""The members as the router sees them: who is free, how fast, who rests. Pure."""
