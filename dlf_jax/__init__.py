"""Click-through-rate prediction in JAX: DLF and the models that it is compared with."""

__version__ = '0.1.0'
