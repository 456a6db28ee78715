"""Classes, searches and scores by texts, in a space that texts and clips share."""
