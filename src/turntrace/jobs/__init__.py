"""What runs on a timer, apart from the timer: each job is a function of the database."""
