"""The process that sees to it that every accepted task gets on: republishes, rescues, retries.

Several schedulers may run at once; each step is a compare-and-set in the ledger.
"""
