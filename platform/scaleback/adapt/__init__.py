"""How generators learn: from nothing, and from some real images."""
