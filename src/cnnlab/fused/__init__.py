"""Several trainings of networks of one shape as one program: the weights stacked, the images shared."""
