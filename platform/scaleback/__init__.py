"""scaleback: how little data does visual pre-training need?"""

__version__ = "0.1.0"
