"""Serving: a model behind OpenAI's chat interface. Needs the extra `serve`."""
