"""What runs before a model call: budgets. A check is a look into memory; the database is asked by a thread beside."""
