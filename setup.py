"""Packages of the wheel; everything else is in pyproject.toml.

`configs/` lies at the top of a checkout, where one looks for it, and becomes the package `dlf_jax.configs`;
pyproject.toml alone can't say so without a list of all packages.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=['dlf_jax', 'dlf_jax.*']), 'dlf_jax.configs'],
    package_dir={'dlf_jax.configs': 'configs'},
    package_data={
        'dlf_jax.analysis.report': ['assets/*'],
        'dlf_jax.configs': ['spaces/*.toml', 'spaces/*/*.toml'],
        'dlf_jax.server': ['assets/*'],
    },
)
