"""Detection on closed windows: detectors score them, a tail makes scores comparable, an ensemble fuses them to alarm and degree."""
