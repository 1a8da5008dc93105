"""What a trained model looks at: `explain.explain` runs all of it.

`importance` permutes fields, `interactions` pairs of fields, `dependence` sets a field to each of its values,
`attributions` divides one row's logit among its fields, `embedding_health` looks at the tables, and `dlf` at
the gates, pathways and attention of DLF. All score rows through `replacing`, on a `sample` of encoded rows.
"""
