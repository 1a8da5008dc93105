"""Many runs side by side: models, variants and sweeps over seeds, in one table and a few plots.

plan.py -> runner.py -> table.py, plots.py: which runs there are, carrying them out as processes of
`dlf_jax.main`, what they come to. Nothing here trains: a run is exactly what the same command by
hand would do, and its folder is an ordinary workdir.
"""
