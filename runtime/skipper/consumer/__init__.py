"""The Celery process that feeds one pool's host with the ids of accepted tasks.

It runs no function, keeps no state that matters, and imports neither the pool nor an instance.
"""
