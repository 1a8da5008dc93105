"""What is asked of a trained model's scores: is the probability right, for whom, and how sure is that?"""
