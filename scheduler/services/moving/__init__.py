"""Moving in from another program: files read, judged line by line, stored; and moving out again."""
