"""The life of a request from acceptance to end, part by part. Pure: see `flow_ports`."""
