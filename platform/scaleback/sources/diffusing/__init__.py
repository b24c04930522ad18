"""Torch halves of the generators: models, what they are told, how they are sampled."""
