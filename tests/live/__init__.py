"""What holds on the fake clock, shown once in real time: `make live`. Not part of `make test`."""
