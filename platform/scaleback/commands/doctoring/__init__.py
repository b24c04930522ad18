"""What the doctor looks at, a file a field; each check is a line: ok or warn or fail, what was found, the cure."""
