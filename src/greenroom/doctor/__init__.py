"""`greenroom doctor`: what is wrong in how a pool is set up, read from its log. Pure."""
