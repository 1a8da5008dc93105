"""What is known of a trained model beside its scores: whether its probabilities are right, what it looks at,
and one page that says so."""
