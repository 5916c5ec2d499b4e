"""Marketing events: from files into the warehouse."""
