"""What every part of Headwater must agree on: identities, formats, the bus, the clock."""
