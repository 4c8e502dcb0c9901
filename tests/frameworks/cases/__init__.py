"""One module a framework; how to write one is in the docstring of `frameworks`."""
