"""Drop layers, and initialize the student from the remaining layers of the teacher."""
