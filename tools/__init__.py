"""What a person runs beside the stages, as `python -m tools.<name>`."""

from genrepro import interrupts

interrupts.end_at_once()
