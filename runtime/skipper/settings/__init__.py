"""The settings: their model, where they are read from, and the process environment."""
