"""The leaderboard: what all tracked runs reached, as mean and spread over seeds."""
