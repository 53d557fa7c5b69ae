"""The process that runs user code: it reads a file of functions, or serves one function of it.

Everything a user or a plugin wrote is imported here and nowhere else. An instance speaks frames
with its pool's host over one socket; it is forked from a template, or started afresh.
"""
