"""What everything stands on: specs and their identity, randomness, storage, errors, units."""
