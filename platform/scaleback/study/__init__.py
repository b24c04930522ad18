"""Studies: a base run, its axes, its seeds; what is to be done and what there already is."""
