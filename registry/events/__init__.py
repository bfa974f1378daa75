"""Who is told: events, written in the transaction of what they tell of."""
