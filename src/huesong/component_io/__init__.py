"""Between a stage and the engine that runs it as a container."""
