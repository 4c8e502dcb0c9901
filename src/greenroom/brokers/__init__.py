"""The way to brokers that more than one room uses: addresses, and connections that end in time."""
