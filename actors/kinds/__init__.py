"""The kinds of children: each is a place in the tree that knows how to live."""
