"""From X to batches: sources, layout, scaling, repeats and the loader."""
