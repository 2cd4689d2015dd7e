"""Many peers: the simulator, its measurements, and the command line."""
