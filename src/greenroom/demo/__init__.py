"""`greenroom demo`: an outage drill, its agents, its story, its screen."""
