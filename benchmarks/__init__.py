"""The course's recipe beside this pipeline: same clips, same model, same machine, same run."""
