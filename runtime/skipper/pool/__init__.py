"""The process that owns one hardware class.

The host is an event loop that owns instances and both lanes' work. It relays bytes, keeps queues,
claims tasks, and imports nothing that a user wrote.
"""
