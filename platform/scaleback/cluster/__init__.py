"""Ray and Optuna, and nothing of them anywhere else."""
