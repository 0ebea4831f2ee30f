"""From arrays to a trained network and back to numbers; knows arrays and networks, not estimators."""
