"""Records: frozen pydantic values that cross every border of the pool."""
