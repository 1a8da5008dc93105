"""What a run would need on a machine that one does not have: its programs, compiled for devices that need not
be there."""
