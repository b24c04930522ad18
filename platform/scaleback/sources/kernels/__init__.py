"""What draws: compiled, or on a GPU. Sources import it when they are opened, never when they are named."""
