"""Measures Skipper beside its peers: `make bench`."""
