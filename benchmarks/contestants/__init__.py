"""Those who train the same recipe, each a process of its own; `table.CONTESTANTS` lists them."""
