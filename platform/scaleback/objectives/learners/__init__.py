"""The torch modules that objectives build."""
