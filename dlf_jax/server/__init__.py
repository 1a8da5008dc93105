"""An HTTP server of a trained model; `dlf_jax.serve` is its command, and `dlf_jax[serve]` what it needs."""
