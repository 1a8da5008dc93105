"""Proposal of a schema file for a table, from its first rows."""

from dlf_jax.data.schema_proposal.proposal import ROWS, propose

__all__ = ['ROWS', 'propose']
