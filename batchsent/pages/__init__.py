"""A scoring run, a comparison or a training as one HTML page: content, charts, templates."""
