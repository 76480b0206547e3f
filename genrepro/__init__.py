"""genrepro: fine-tune an audio transformer, reproducibly, and believe the number."""
