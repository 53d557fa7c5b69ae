"""The direct lane: calls whose callers wait on the line."""
