"""The agent on the device: sources, decode, windows, detect, journal, forward."""
