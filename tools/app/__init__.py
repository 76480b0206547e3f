"""The app: listen to the corpus, classify a sound, hear the mistakes, see the run."""
