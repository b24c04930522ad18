"""What each verb of the command line does; the parsing is in ``cli``."""
