"""FastAPI's routes: everything but the invocation of functions."""
