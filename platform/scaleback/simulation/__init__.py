"""A study on paper: the stages of its plan, times as measured, on machines that are not there."""
