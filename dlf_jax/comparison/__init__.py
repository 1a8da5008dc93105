"""Many training runs side by side: models, variants and sweeps over seeds, in one table and a few plots.

    settings.py -> run_list.py -> runner.py -> results_table.py, plots.py      python -m dlf_jax.compare
    space.py -> search.py -> runner.py -> search_report.py                     python -m dlf_jax.tune

A run is the training of one model with one seed: a process of `dlf_jax.main` with a workdir of its own,
exactly as the same command by hand. Nothing here trains.
"""
