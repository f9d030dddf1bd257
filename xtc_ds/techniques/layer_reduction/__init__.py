"""Drop layers; start the student from the teacher's remaining ones."""
