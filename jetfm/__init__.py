"""jetfm: foundation models of collider events in JAX."""
