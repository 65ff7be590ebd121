"""For workshops: hand-outs, the progress of many learners, a kit for a room with no network."""
