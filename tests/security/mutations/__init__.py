"""Requests and frames that are nearly right, by the million: a seeded campaign.

``python -m tests.security.mutations --cases 1000000 --seed 1`` feeds them to the gateway's
connection and to what reads frames, in this process, and a share of them to a running tree: over
HTTP, and over a host's own socket. The exit code tells whether anything crashed, hung, was answered
with 500, or wrote a traceback.
"""
