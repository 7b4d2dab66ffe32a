"""Images, videos and models in the shapes of OpenAI's API."""
