"""What a compiler makes of the memory-bound parts of a convolution block, where there is a compiler."""
